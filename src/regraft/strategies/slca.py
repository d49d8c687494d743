"""SLCA: a pretrained network that learns slowly under a head that learns fast, and a head aligned over all classes.

    during a task    body at `factor` · lr, head at lr, cross-entropy among the task's own classes
    after it         its classes' Gaussians are kept; on what is released, the head learns from features drawn of all

The head that is aligned answers; the next task goes on from the head before. What was kept of earlier classes is true
of a body that hardly moved: where the pretrained features serve the stream as they are, `factor=0` is the safer choice.

Paper:   "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model" Zhang et al. 2023.
         https://arxiv.org/abs/2303.05118
Claim:   a slow body is more accurate after a stream than one rate for all, and an aligned head adds to that.
Differs: alignment is as long as so many passes over the task's rows, not over 256 draws of each class.
Tags:    exemplar-free, pretrained, class-incremental
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.class_gaussians import class_gaussians
from regraft.parts.losses.logit_norm import logit_norm
from regraft.parts.losses.new_classes import new_classes
from regraft.parts.samplers.gaussians import gaussians
from regraft.parts.schedules.rewarm import rewarm
from regraft.parts.trainables.slow import slow
from regraft.recipes.strategy import Stage, Strategy, method


@method(tune={"factor": (0.1, 0.01, 0.0), "tau": (0.1, 0.3)})
def slca(
    *, factor: float = 0.01, tau: float = 0.1, alignment: float = 1.0, covariance: Literal["full", "diagonal"] = "full"
) -> Strategy:
    """`alignment`: how long the head is aligned, as a factor on the length of training."""
    drawn = Plan((Feed("gaussians", gaussians()),), (Weighted(logit_norm(tau)),), trainables=(slow(0.0),))
    align = Stage(drawn + Plan(lr=rewarm(warmup=0.0, floor=0.0)), alignment)
    return Strategy(
        Plan(trainables=(slow(factor),)),
        labels=(Weighted(new_classes()),),
        after=(class_gaussians(covariance),),
        release=(align,) if alignment else (),
    )

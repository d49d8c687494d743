"""IBCL: posteriors of all tasks over one head, from which a model is drawn for any preference over the tasks.

    for each task    m posteriors, from m priors, each the last task's posterior; then they are kept (`credal_set`)
    afterwards       apply(preference(w), model, {}, lived.memory, seed=0): a model for w, without training

The network under the head is frozen. In the stream itself the version that answers is drawn for all tasks alike.

Paper:   "IBCL: Zero-shot Model Generation for Task Trade-offs in Continual Learning" Lu et al. 2023.
         https://arxiv.org/abs/2305.14782
Claim:   a head written for a preference is more accurate, each task counted by it, than one that is fine-tuned; of the
         three ways to combine the posteriors their mean is the best.
Differs: the claim's tasks agree on what a label means. Where they do not, heads of single tasks, mixed, were better on
         two seeds. `d` is 0, so that every posterior is kept; the paper's is from 2e-3 to 8e-3.
Tags:    variational, pretrained, exemplar-free, class-incremental, domain-incremental
"""

from __future__ import annotations

from typing import Literal

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.credal_set import credal_set
from regraft.parts.edits.preference import preference
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.mean_field import mean_field
from regraft.parts.trainables.slow import slow
from regraft.recipes.strategy import Stage, Strategy, method


@method(tune={"combine": ("mean", "average", "mixture"), "std": (0.25, 1.0)})
def ibcl(
    *,
    m: int = 3,
    std: float = 0.25,
    spread: float = 0.2,
    d: float = 0.0,
    alpha: float = 0.01,
    combine: Literal["mixture", "average", "mean"] = "mixture",
) -> Strategy:
    """`spread`: the first priors have standard deviations from (1 - spread) · std to (1 + spread) · std."""
    stds = [std * (1 + spread * (2 * j / (m - 1) - 1 if m > 1 else 0)) for j in range(m)]
    parts = [mean_field(s, member=j) for j, s in enumerate(stds)]
    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), trainables=(slow(0.0),))
    stages = tuple(Stage(plan + Plan(penalties=(Weighted(q),), trainables=(q,))) for q in parts)
    return Strategy(before=stages, after=(credal_set(d),), release=(preference((), alpha, combine),), epochs=0.0)

"""DER++ and LwF over noisy views of the memory: old rows answer as they did when stored, and as before this task.

    loss = CE(new) + over rows of memory, each under a new view:
           alpha · MSE(logits as they were when stored) + beta · CE + strength · T² KL(before || now, old classes)

A composition of ours. Three quarters as many old rows as new ones pay for the pass of the network as it was before.

Paper: "Dark Experience for General Continual Learning: a Strong, Simple Baseline" Buzzega et al. 2020.
       https://arxiv.org/abs/2004.07211
Paper: "Learning without Forgetting" Li and Hoiem 2016. https://arxiv.org/abs/1606.09282
Claim: at equal memory, and at an equal cost of passes, it is more accurate than DER++.
Tags:  replay, distillation, augmentation, class-incremental, domain-incremental, task-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.transforms.augment import augment
from regraft.recipes.strategy import Strategy, method


@method(tune={"alpha": (0.3, 1.0), "noise": (0.1, 0.3)}, null={"beside": 0.0})
def der_lwf(
    *,
    memory: int = 200,
    beside: float = 0.75,
    alpha: float = 1.0,
    beta: float = 1.0,
    strength: float = 1.0,
    noise: float = 0.3,
) -> Strategy:
    """`noise`: of inputs of standard deviation 1; 0: rows are seen as they are."""
    kept = reservoir(memory, keep=("logits",))
    seen = view_batch(kept, 1, augment(noise=noise)) if noise else kept
    answers = (
        Weighted(distil(of="logits", by="mse"), alpha, on=("memory",)),
        Weighted(distil(classes="known"), strength, on=("memory",)),
    )
    labels = (Weighted(nll(), 1.0, on=("new",)), Weighted(nll(), beta, on=("memory",)))
    return Strategy(Plan(feeds=(Feed("memory", seen, beside=beside),), losses=answers), labels)

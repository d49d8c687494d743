"""DER++: a small memory whose rows keep the answers and the labels they had. DER is its beta = 0.

    loss = CE(new) + alpha · MSE(logits of memory, as they were when stored) + beta · CE(memory)

Paper:   "Dark Experience for General Continual Learning: a Strong, Simple Baseline" Buzzega et al. 2020.
         https://arxiv.org/abs/2004.07211
Paper:   "A Unified and General Framework for Continual Learning" Wang et al. 2024. https://arxiv.org/abs/2403.13249
Differs: answers and labels are learned on one draw of the memory; the authors draw twice.
Tags:    replay, distillation, task-free, online, class-incremental, task-incremental, domain-incremental,
         language model
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy, method


@method(tune={"alpha": (0.1, 0.3, 1.0), "beta": (0.5, 1.0)}, null={"beside": 0.0})
def der_pp(*, memory: int = 200, beside: float = 1.0, alpha: float = 0.3, beta: float = 1.0) -> Strategy:
    kept = Feed("memory", reservoir(memory, keep=("logits",)), beside=beside)
    answers = Weighted(distil(of="logits", by="mse"), alpha, on=("memory",))
    labels = (Weighted(nll(), 1.0, on=("new",)), Weighted(nll(), beta, on=("memory",)))
    return Strategy(Plan(feeds=(kept,), losses=(answers,)), labels)

"""UER: replay, where new rows teach directions and replayed rows also lengths.

    loss = CE(s · cosine of head and features, new rows) + CE(logits, rows of memory)

Paper: "UER: A Heuristic Bias Addressing Approach for Online Continual Learning" Lin et al. 2023.
       https://arxiv.org/abs/2309.04081
Claim: when every row comes once and the memory is small, cosines on new rows make replay more accurate than the
       ordinary cross-entropy does, and no less accurate than on both.
Tags:  replay, task-free, online, class-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.cosine import cosine
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.reservoir import reservoir
from regraft.recipes.strategy import Strategy, method


@method(tune={"s": (5.0, 10.0, 20.0)})
def uer(*, memory: int = 200, beside: float = 1.0, s: float = 10.0) -> Strategy:
    labels = (Weighted(cosine(s), 1.0, on=("new",)), Weighted(nll(), 1.0, on=("memory",)))
    return Strategy(Plan(feeds=(Feed("memory", reservoir(memory), beside=beside),)), labels)

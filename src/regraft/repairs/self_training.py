"""Self-training: the model answers, what is right is kept, and it learns from that and the demonstrations.

    warm-up:        -log pi(demonstration)                              a part `warm_up` of the updates
    each round:     D <- { y : y right, among `samples` answers to each question }, each text once for a question
                    -log pi(y),  y ~ D and the demonstrations           from the model as it was at first, with `anew`

Rounds share what is left of the updates. One round is RFT, with its many distinct right answers to a question; several
rounds, each from the first model, are STaR without its hints.

Paper:   "Scaling Relationship on Learning Mathematical Reasoning with Large Language Models" Yuan et al. 2023.
         https://arxiv.org/abs/2308.01825
Paper:   "STaR: Bootstrapping Reasoning With Reasoning" Zelikman et al. 2022. https://arxiv.org/abs/2203.14465
Needs:   questions whose answers can be checked; demonstrations, or a model that answers some questions rightly.
Differs: STaR's hints (the answer is given, a reasoning asked for) are left out.
Tags:    demonstrations, language model
"""

from __future__ import annotations

import torch

from regraft.core.errors import RegraftError
from regraft.numerics.answers import join_blocks
from regraft.recipes.repairing import SHOWN, Workshop, repair


@repair
def self_training(w: Workshop, *, warm_up: float = 0.3, samples: int = 8, rounds: int = 1, anew: bool = True) -> None:
    if not 0 <= warm_up < 1 or samples < 1 or rounds < 1:
        raise RegraftError(
            f"self_training: warm_up is {warm_up}, samples {samples}, rounds {rounds}; "
            "the first must be under 1, the others 1 or more"
        )
    shown = w.lesson.shown
    first = {name: tensor.clone() for name, tensor in w.model.state().items()}
    if shown is not None:
        w.fit(w.imitated(), round(warm_up * w.left))
    for number in range(rounds):
        found = w.right(w.tried(copies=samples))
        asked = w.lesson.items.count
        w.note(f"kept       {found.count} right answers, of {samples} to each of {asked} questions")
        known = [rows.only("input_ids", "targets", "counts", "positions") for rows in (shown, found) if rows]
        if not known:
            return
        both = join_blocks(known)
        if anew:
            w.model.load(first)
        w.fit(w.imitated(), w.left // (rounds - number), data={SHOWN: both.having(row=torch.arange(both.count))})

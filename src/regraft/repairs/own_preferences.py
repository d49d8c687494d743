"""Preference among the model's own answers: a right one before a wrong one to the same question, in several rounds.

    each round:   y ~ pi(. | x), judged;   pairs (y_w, y_l) of a right and a wrong answer to one question
    l = DPO(y_w, y_l; pi before the round) + alpha (-log pi(y_w | x) / |y_w|)

At most `each` pairs a question, right and wrong answers paired off as they were written. Questions that are always
answered rightly, or never, give no pair. Pairs that the user brought are learned with them.

Paper:   "Iterative Reasoning Preference Optimization" Pang et al. 2024. https://arxiv.org/abs/2404.19733
Paper:   "Direct Preference Optimization: Your Language Model is Secretly a Reward Model" Rafailov et al. 2023.
         https://arxiv.org/abs/2305.18290
Tags:    preference optimisation, self-training, language model
"""

from __future__ import annotations

import torch

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.numerics.answers import join_blocks, pair_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.trying import Tried
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.repairing import PAIRS, Workshop, repair


@repair
def own_preferences(w: Workshop, *, rounds: int = 3, beta: float = 0.1, alpha: float = 1.0, each: int = 2) -> None:
    if rounds < 1 or each < 1:
        raise RegraftError(f"own_preferences: rounds is {rounds}, each is {each}; both must be 1 or more")
    loss = Weighted(direct_preference(beta, nll=alpha), on=(PAIRS,))
    for left in range(rounds, 0, -1):
        rows = pairs_of(w.tried(), each)
        if w.lesson.pairs is not None:
            rows = join_blocks([rows, w.lesson.pairs.only(*(rows if rows else w.lesson.pairs))])
        w.note(f"pairs      {rows.count} of right and wrong answers")
        if not rows:
            return
        rows = rows.having(row=torch.arange(rows.count))
        w.fit(Plan((Feed(PAIRS, shuffled(PAIRS)),), (loss,)), -(-w.left // left), data={PAIRS: rows})


def pairs_of(answers: Tried, each: int) -> Rows:
    """Pairs of a right and a wrong answer to one question, at most `each` of a question."""
    rows, written, copies = answers
    right = (rows["reward"] >= 1).view(-1, copies)
    chosen: list[tuple[int, int]] = []
    for question, own in enumerate(right):
        good, bad = own.nonzero()[:, 0].tolist(), (~own).nonzero()[:, 0].tolist()
        first = question * copies
        chosen += [(first + y_w, first + y_l) for y_w, y_l in zip(good[:each], bad[:each], strict=False)]
    if not chosen:
        return Rows({})
    won, lost = (torch.tensor(side) for side in zip(*chosen, strict=True))
    prompts = Padded.of([rows["prompt_ids"][i] for i in won.tolist()])
    return pair_blocks(prompts, *(Padded(written.tokens[side], written.lengths[side]) for side in (won, lost)))

"""What several answers to a question are worth together: by their number, by a judge of answers, by both.

    pass@1    how often an answer is right           pass@N    how often one of N is
    majority  the answer that most of the N give     best      the answer that the judge finds worth most
    weighted  the answer whose copies are worth most in all, by the judge

`judge` says what is right, `by` what answers are worth: any transform of rows that gives a `reward`, such as
`step_judge` and `process_reward`; none: there is no judge. What votes is the answer after the last `marker`. Where
rewards may be under 0, `squashed` counts sigma(reward) for a vote.

Paper: "Easy-to-Hard Generalization: Scalable Alignment Beyond Human Supervision" Sun et al. 2024.
       https://arxiv.org/abs/2403.09472
Paper: "Free Process Rewards without Process Labels" Yuan et al. 2024. https://arxiv.org/abs/2412.01981
Needs: rows `source` as `rollouts` reads them; what `by` needs.
Tags:  diagnostic, reinforcement learning, language model
"""

from __future__ import annotations

from typing import Any

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model, Transform
from regraft.numerics.sampling import Sampling
from regraft.numerics.trying import Asking, Tried, in_blocks, tried
from regraft.numerics.verify import answer
from regraft.numerics.voting import best_of, numbered, voted


@metric
def voting(
    model: Model,
    ctx: Context,
    *,
    judge: Transform,
    by: Transform | None = None,
    source: str = "items",
    marker: str | None = None,
    copies: int = 16,
    tokens: int = 256,
    temperature: float = 1.0,
    squashed: bool = False,
    at_once: int = 64,
) -> Measurement:
    items = ctx.rows(source)
    if not items:
        raise RegraftError("voting: there is no question to ask")
    answers = tried(model, items, judge, Asking(copies, tokens, Sampling(temperature), at_once=at_once), ctx)
    return counted(answers, ctx, by, marker=marker, squashed=squashed)


def counted(
    answers: Tried, ctx: Context, by: Transform | None = None, *, marker: str | None = None, squashed: bool = False
) -> Measurement:
    """The same of answers that are written and judged already."""
    right = (answers.rewards >= 1).double()
    said = numbered([answer(text, marker) for text in answers.rows["written"]], answers.copies)

    def rate(chosen: Any) -> float:
        return float(right.gather(1, chosen[:, None]).mean())

    numbers = {"pass@1": float(right.mean()), f"pass@{answers.copies}": float(right.amax(1).mean())}
    numbers["majority"] = rate(voted(said))
    if by is not None:
        worth = by(in_blocks(answers), ctx)["reward"].view(-1, answers.copies)
        numbers["best"] = rate(best_of(worth))
        numbers["weighted"] = rate(voted(said, worth.sigmoid() if squashed else worth))
    return Measurement(numbers)

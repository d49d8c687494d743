"""How much is answered rightly when thinking is cut off after so many tokens, and an answer is asked for.

    accuracy(b) = mean over answers of  1[ right(y) ]                          T <= b
                                        1[ right(y_1..b, force, z) ]           else,  z what is likeliest then

T: the tokens of an answer y before those of `force` first come in it, such as " so" or "</think>": what comes between
the thinking and the answer proper. z has at most `after` tokens. An answer that thinks no longer than b stands as it
is. No verifier chooses anything; `judge` only says what is right.

`accuracy@b` is told for each of the `budgets`, and `cut@b`, how many answers were cut off; `area`: that under the
curve, over the width of the budgets; `thinking`: the mean of T.

Paper: "Advancing Language Model Reasoning through Reinforcement Learning and Inference Scaling" Hou et al. 2025.
       https://arxiv.org/abs/2501.11651
Paper: "Optimizing Test-Time Compute via Meta Reinforcement Fine-Tuning" Qu et al. 2025.
       https://arxiv.org/abs/2503.07572
Needs: rows `source` as `rollouts` reads them.
Tags:  diagnostic, reinforcement learning, language model
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model, Transform
from regraft.numerics.forced import cut_off, thinking
from regraft.numerics.sampling import Sampling
from regraft.numerics.step_values import gone_on
from regraft.numerics.trying import Asking, tried


@metric
def accuracy_by_budget(
    model: Model,
    ctx: Context,
    *,
    judge: Transform,
    budgets: tuple[int, ...],
    force: str,
    source: str = "items",
    copies: int = 1,
    tokens: int = 256,
    after: int = 32,
    temperature: float = 0.0,
    at_once: int = 64,
) -> Measurement:
    items = ctx.rows(source)
    if not items:
        raise RegraftError("accuracy_by_budget: there is no question to ask")
    if not budgets or min(budgets) < 0 or any(b <= a for a, b in pairwise(budgets)):
        raise RegraftError(f"accuracy_by_budget: the budgets are {budgets}; they must be 0 or more, and rise")
    who: Any = model
    asked_for: list[int] = who.tokenizer(force, add_special_tokens=False)["input_ids"]
    if not asked_for:
        raise RegraftError("accuracy_by_budget: force is empty", do="Give the text that an answer begins with")
    asking = Asking(copies, tokens, Sampling(temperature), at_once=at_once)
    answers = tried(who, items, judge, asking, ctx)
    T = thinking(answers, asked_for)
    numbers = {"thinking": float(T.double().mean())}
    last = Asking(1, after, Sampling(0.0), at_once=at_once)
    for b in budgets:
        right = (answers.rows["reward"] >= 1).double()
        if len(cut := (b < T).nonzero()[:, 0]):
            begun = cut_off(answers, cut, b, asked_for)
            right[cut] = (gone_on(who, begun, judge, last, ctx, ctx.rng)[0]["reward"] >= 1).double()
        numbers |= {f"accuracy@{b}": float(right.mean()), f"cut@{b}": len(cut) / len(right)}
    at = [(b, numbers[f"accuracy@{b}"]) for b in budgets]
    areas = [(b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(at)]
    numbers["area"] = sum(areas) / (budgets[-1] - budgets[0]) if areas else at[0][1]
    curve = [{"budget": b, "accuracy": p, "cut": numbers[f"cut@{b}"]} for b, p in at]
    return Measurement(numbers, {"budgets": curve})

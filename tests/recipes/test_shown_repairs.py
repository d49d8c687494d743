"""Repairs that mix demonstrations and rewards: what they spend, what they are without the mixture, what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import Spec, transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.engine.training import Training
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.schedules.cooldown import cooldown
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.recipes.repairing import RL, SHOWN, InMemory, Workshop
from regraft.repairs.easy_to_hard import easy_to_hard
from regraft.repairs.imitation import imitation
from regraft.repairs.prefix_rft import prefix_rft
from regraft.repairs.sasr import sasr
from regraft.worlds import llama, operations
from regraft.worlds.repairs import lesson

STEPS = 6


@transform
def digits(rows: Rows, ctx: Context) -> Rows:
    """Right is what has a digit: a model that nobody taught does that now and then."""
    return rows.having(reward=torch.tensor([float(any(c.isdigit() for c in text)) for text in rows["written"]]))


class Watched(InMemory):
    """Keeps what each call left."""

    def __init__(self) -> None:
        super().__init__()
        self.fitted: list[Any] = []

    def fit(self, *asked: Any) -> Any:
        self.fitted.append(super().fit(*asked))
        return self.fitted[-1]


def workshop(*, shown: bool = True) -> tuple[Workshop, Watched]:
    model = llama.llama(operations.tokenizer(), width=16, depth=1, heads=2, context=operations.CONTEXT, seed=0)
    asked = lesson(0, ("add", "times"), 20)
    asking = asked.asking._replace(copies=4)
    asked = replace(asked, judge=digits(), asking=asking, shown=asked.shown if shown else None)
    doer = Watched()
    return Workshop(model, asked, Training(STEPS, 16, 0.01, log_every=1), doer), doer


def learned(how: Any, *, shown: bool = True) -> tuple[Mapping[str, Tensor], Watched, Workshop]:
    w, doer = workshop(shown=shown)
    how(w)
    return {n: t.clone() for n, t in w.model.state().items()}, doer, w


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)


def steps_of(doer: Watched) -> list[str]:
    """Which feed each step was of."""
    [fitted] = doer.fitted
    return [SHOWN if f"nll@{SHOWN}" in r else RL for r in fitted.curve]


@pytest.mark.parametrize("how", [prefix_rft(), sasr(), easy_to_hard(K=2), easy_to_hard(K=1, tries=0)], ids=str)
def test_they_spend_all_updates_and_do_so_alike(how: Spec) -> None:
    first, doer, w = learned(how)
    assert w.left == 0
    assert len(doer.fitted) == 1
    assert len(doer.fitted[0].curve) == STEPS
    assert same(first, learned(how)[0])


def test_without_a_prefix_it_is_reinforcement() -> None:
    def plain(w: Workshop) -> None:
        loss = policy_gradient(per=w.lesson.asking.tokens)
        w.fit(w.reinforced(then=(group_advantage(scaled=False),), loss=loss))

    assert same(learned(prefix_rft(rows=0))[0], learned(plain)[0])
    assert not same(learned(prefix_rft())[0], learned(plain)[0])


def test_the_demonstrations_that_answers_began_with_were_seen() -> None:
    _, doer, w = learned(prefix_rft())
    asked = doer.fitted[0].seen[RL].nonzero()[:, 0]
    assert w.lesson.shown is not None
    assert torch.equal(doer.fitted[0].seen[SHOWN].nonzero()[:, 0], asked), "a demonstration of each question"


def test_steps_that_imitate() -> None:
    always = learned(sasr(p=1.0))
    assert steps_of(always[1]) == [SHOWN] * STEPS
    assert same(always[0], learned(imitation())[0])
    assert steps_of(learned(sasr(p=0.0))[1]) == [RL] * STEPS
    assert steps_of(learned(sasr(p=cooldown(early=1.0, late=0.0, switch=0.5)))[1]) == [SHOWN] * 3 + [RL] * 3
    found = steps_of(learned(sasr(warm=0.5))[1])
    assert found[:3] == [SHOWN] * 3


def test_the_order_is_told() -> None:
    _, doer, _ = learned(easy_to_hard(K=5, tries=0))
    assert doer.notes[0].startswith("order      5 batches; of pairs turned round as each was entered: ")
    assert doer.notes[0].count("%") == 2, "24 questions of 40: the batches of 8 that were entered after the first"
    _, doer, _ = learned(easy_to_hard(K=1, tries=0))
    assert doer.notes == ["order      1 batches; of pairs turned round as each was entered: none"]


def test_what_they_need() -> None:
    for how in (prefix_rft(), sasr()):
        with pytest.raises(RegraftError, match="no demonstrations"):
            learned(how, shown=False)
    assert learned(easy_to_hard(), shown=False)[2].left == 0, "it asks without them"
    for warm in (0.0, 1.5):
        with pytest.raises(RegraftError):
            learned(sasr(warm=warm))

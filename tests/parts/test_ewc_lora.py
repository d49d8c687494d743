"""EWC on a change of low rank: the authors' formula by hand, what it is anchored to, and how it is switched off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from part_world import PLAIN, model, run, same, table

from regraft.core.errors import RegraftError
from regraft.core.plan import Plan, Weighted
from regraft.data.scenario import Scenario, Task
from regraft.engine.edits import apply
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.fisher import diagonal_fisher
from regraft.parts.edits.ewc_anchor import ewc_anchor
from regraft.parts.penalties.ewc import ewc
from regraft.parts.schedules.linear import linear
from regraft.parts.trainables.lora import LowRank, lora
from regraft.recipes.strategy import Stage, Strategy, live, method_named

STRENGTH, R, ALPHA = 3.0, 2, 32.0
LOW = Plan(trainables=(lora(R, ALPHA),))
HELD = LOW + Plan(penalties=(Weighted(ewc(), 2 * STRENGTH),))


def anchored(**knobs: Any) -> dict[str, Any]:
    return apply(ewc_anchor(**knobs), model(), {"new": table(20, seed=4)}, {})


def test_the_gradient_is_that_of_the_change_by_the_importance_of_the_frozen_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, rows, seen = anchored(), table(30), list[tuple[torch.Tensor, torch.Tensor]]()

    def at_random(self: LowRank, W: torch.Tensor, r: int, scale: float, dice: torch.Generator) -> None:
        torch.nn.Module.__init__(self)
        self.A = torch.nn.Parameter(torch.randn(r, W.shape[1], generator=dice, dtype=W.dtype))
        self.B = torch.nn.Parameter(torch.randn(W.shape[0], r, generator=dice, dtype=W.dtype))
        self.scale = scale
        seen.append((self.A, self.B))

    monkeypatch.setattr(LowRank, "__init__", at_random)
    once, moved = Training(steps=1, batch=30, lr=1.0, optimizer="SGD", clip=None, explode=1e9), []
    for plan in (LOW, HELD):
        seen.clear()
        student = model()
        before: list[torch.Tensor] = []
        monkeypatch.setattr(student, "read", _first(student, before, seen))
        fit(student, PLAIN + plan, {"new": rows}, once, memory=memory)
        A, B = before
        moved.append((A, B, A - seen[0][0].detach(), B - seen[0][1].detach()))
    (A, B, by_A, by_B), (_, _, held_A, held_B) = moved
    s, F = ALPHA / R, memory["ewc"]["F"]["0.weight"]
    A, B = A.requires_grad_(), B.requires_grad_()
    expected = torch.autograd.grad(STRENGTH * (F * (s * (B @ A)).square()).sum(), [A, B])
    assert torch.allclose(held_A - by_A, expected[0], rtol=1e-10, atol=1e-10)
    assert torch.allclose(held_B - by_B, expected[1], rtol=1e-10, atol=1e-10)
    assert expected[0].abs().max() > 1e-3


def _first(student: Classifier, before: list[torch.Tensor], seen: list[Any]) -> Any:
    """Reads as the student does, and keeps A and B as they are before the first step."""
    read = student.read

    def kept(rows: Any) -> Any:
        if not before:
            before.extend(tensor.detach().clone() for tensor in seen[0])
        return read(rows)

    return kept


def test_strength_0_is_lora_bit_for_bit() -> None:
    memory = anchored()
    absent = LOW + Plan(penalties=(Weighted(ewc(), 0.0),))
    assert same(run(PLAIN + LOW, memory=memory)[0], run(PLAIN + absent, memory=memory)[0])
    assert not same(run(PLAIN + LOW, memory=memory)[0], run(PLAIN + HELD, memory=memory)[0])
    first = Strategy(LOW)
    assert method_named("ewc_lora")(strength=0.0, r=R, alpha=ALPHA).plan.trainables == first.plan.trainables


def test_changes_of_any_rank_are_online_ewc() -> None:
    assert method_named("ewc_lora")(strength=3.0, r=None) == method_named("online_ewc")(strength=6.0)
    assert method_named("sefe")(strength=3.0, r=None).plan.trainables == ()


def test_what_was_trained_on_is_measured_once_and_nothing_moves() -> None:
    network, rows = model(), table(20, seed=4)
    start = {name: tensor.clone() for name, tensor in network.state().items()}
    memory = apply(ewc_anchor(), network, {"new": rows}, {})
    assert same(start, dict(network.state()))
    assert same(memory["ewc"]["w"], start)
    assert same(memory["ewc"]["F"], diagonal_fisher(network, rows))
    assert apply(ewc_anchor(), network, {"new": table(5)}, memory) == memory
    some = apply(ewc_anchor(rows=7), network, {"new": rows}, {}, seed=1)
    assert not same(some["ewc"]["F"], memory["ewc"]["F"])
    assert same(some["ewc"]["F"], apply(ewc_anchor(rows=7), network, {"new": rows}, {}, seed=1)["ewc"]["F"])
    with pytest.raises(RegraftError, match="rows is 0; it must be at least 1"):
        ewc_anchor(rows=0)
    with pytest.raises(RegraftError, match="no rows named 'text'"):
        apply(ewc_anchor("text"), network, {"new": rows}, {})


def test_a_first_task_that_is_known_is_measured_and_not_learned() -> None:
    tasks = Scenario("two", tuple(Task.of(str(i), table(20, seed=4 + i), table(9, seed=7)) for i in range(2)))
    setting = Training(steps=1, batch=5, lr=0.05, log_every=1)
    start = {name: tensor.clone() for name, tensor in model().state().items()}
    after: list[dict[str, torch.Tensor]] = []
    network = model()

    def keep(*_: Any) -> None:
        after.append({name: tensor.clone() for name, tensor in network.state().items()})

    strategy = method_named("ewc_lora")(strength=STRENGTH, r=R, known=True)
    live(network, tasks, strategy, setting, epochs=2, on_task=keep)
    assert same(after[0], start)
    assert not same(after[1], start)
    learned = PLAIN + Plan(trainables=(lora(R),), lr=linear())
    bare = Strategy(after=(Stage(learned, tasks="later"),), epochs=0.0)
    off = method_named("ewc_lora")(strength=0.0, r=R, alpha=16.0, known=True)
    ends = []
    for each in (bare, off):
        one = model()
        live(one, tasks, each, setting, epochs=2)
        ends.append({name: tensor.clone() for name, tensor in one.state().items()})
    assert same(*ends)

"""Every k steps the weights go back to eps of the way from their anchor; in between nothing is touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from part_world import PLAIN, SETTINGS, STEPS, context, model, resumed, run, same
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Grads, Slot
from regraft.core.plan import Plan
from regraft.parts.gradients.reptile import reptile

SGD = replace(SETTINGS, optimizer="SGD")


def aligned(k: int, eps: float) -> Plan:
    return PLAIN + Plan(gradients=(reptile(k=k, eps=eps),))


@dataclass(frozen=True)
class watch:
    """Keeps every tensor as each step leaves it, before later transforms."""

    log: list

    def __hash__(self) -> int:
        return id(self.log)

    def begin(self, ctx: Context) -> watch:
        return self

    def update(self, grads: Grads) -> Grads:
        self.log.append({})
        return grads

    def lands(self) -> bool:
        return True

    def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
        self.log[-1][name] = (before.clone(), after.clone())
        return after


@pytest.mark.parametrize("k", [1, 5, STEPS, 500])
def test_eps_one_is_absence_bit_for_bit(k: int) -> None:
    assert same(run(PLAIN)[0], run(aligned(k, 1.0))[0])


@pytest.mark.parametrize("k", [1, 4, 5])
def test_the_weights_are_interpolated_every_k_steps_and_only_then(k: int) -> None:
    eps, stepped, landed = 0.3, [], []
    start = {n: t.clone() for n, t in model().state().items()}
    plan = PLAIN + Plan(gradients=(watch(stepped), reptile(k=k, eps=eps), watch(landed)))
    end, _ = run(plan, training=SGD)
    anchor = start
    for t in range(STEPS):
        for name in start:
            after, kept = stepped[t][name][1], landed[t][name][1]
            if (t + 1) % k:
                assert torch.equal(kept, after)
            else:
                assert torch.allclose(kept, anchor[name] + eps * (after - anchor[name]), atol=1e-12)
        if (t + 1) % k == 0:
            anchor = {n: landed[t][n][1] for n in start}
    assert same(end, {n: landed[-1][n][1] for n in start})


def test_with_k_one_and_plain_steps_it_scales_the_learning_rate() -> None:
    slow, _ = run(PLAIN, training=replace(SGD, lr=SGD.lr * 0.25))
    back, _ = run(aligned(1, 0.25), training=SGD)
    assert all(torch.allclose(slow[n], back[n], atol=1e-12) for n in slow)


def test_eps_zero_stays_at_the_start_of_each_cycle() -> None:
    end, _ = run(aligned(4, 0.0))
    assert same(end, model().state())


@pytest.mark.parametrize("at", [1, 3, 5, 6, STEPS])
@pytest.mark.parametrize("k", [1, 5])
def test_resumed_equals_uninterrupted(tmp_path: Path, at: int, k: int) -> None:
    plan = aligned(k, 0.3)
    assert same(run(plan)[0], resumed(plan, tmp_path, at)[0])


def test_the_anchor_is_what_the_model_holds_when_a_later_transform_moves_it() -> None:
    @dataclass(frozen=True)
    class double:
        def begin(self, ctx: Context) -> double:
            return self

        def update(self, grads: Grads) -> Grads:
            return grads

        def project(self, name: str, before: Tensor, after: Tensor) -> Tensor:
            return before + 2 * (after - before)

    log: list = []
    run(PLAIN + Plan(gradients=(reptile(k=1, eps=0.0), double(), watch(log))))
    for name, (before, after) in log[-1].items():
        assert torch.equal(before, log[-2][name][1])
        assert torch.equal(after, before)


def test_frozen_tensors_do_not_move() -> None:
    @dataclass(frozen=True)
    class only_last:
        def begin(self, ctx: Context) -> only_last:
            return self

        def install(self, model: object) -> None: ...
        def fold(self, model: object) -> None: ...
        def multiplier(self, slot: Slot) -> float:
            return float(slot.name.startswith("2."))

    end, _ = run(aligned(5, 0.3) + Plan(trainables=(only_last(),)))
    start = model().state()
    assert [n for n in start if not torch.equal(start[n], end[n])] == ["2.weight", "2.bias"]


def test_a_period_that_never_ends_is_refused() -> None:
    with pytest.raises(RegraftError, match="never act: k is 13, the update has 12 steps"):
        run(aligned(13, 0.1))
    with pytest.raises(RegraftError, match=r"eps is 1\.5"):
        reptile(eps=1.5)
    with pytest.raises(RegraftError, match="k is 0"):
        reptile(k=0)
    reptile(k=12).begin(context(steps=12))

"""Low-rank adaptation beside other parts: the same weight, two penalties, modules that others put in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from part_world import PLAIN, SETTINGS, model, same, table
from torch import Tensor

from regraft.core.errors import Clash
from regraft.core.parts import Context, Weights
from regraft.core.plan import Plan, Weighted
from regraft.engine.fit import fit
from regraft.parts.losses.supcon import supcon
from regraft.parts.trainables.lora import lora


def test_two_over_one_weight_clash() -> None:
    with pytest.raises(Clash, match="lora: another part changes the weight of the same layer"):
        fit(model(), PLAIN + Plan(trainables=(lora(2), lora(1))), {"new": table(20)}, SETTINGS)


@dataclass(frozen=True)
class toward:
    """Half the squared distance of all weights from one number."""

    value: float

    def begin(self, ctx: Context) -> toward:
        return self

    def penalty(self, weights: Weights) -> Tensor:
        return torch.stack([(w - self.value).square().sum() / 2 for w in weights.values()]).sum()


def test_two_penalties_pull_as_one_that_is_their_sum() -> None:
    ends = []
    for penalties in ((Weighted(toward(0.1), 0.5), Weighted(toward(0.3), 0.5)), (Weighted(toward(0.2)),)):
        student = model()
        fit(student, PLAIN + Plan(penalties=penalties, trainables=(lora(2),)), {"new": table(20)}, SETTINGS)
        ends.append(student.state())
    assert all(torch.allclose(tensor, ends[1][name], rtol=1e-9, atol=1e-12) for name, tensor in ends[0].items())
    assert not same(ends[0], model().state())


def test_it_leaves_what_other_parts_put_in_alone() -> None:
    contrast = supcon(0.1)
    plan = PLAIN + Plan(losses=(Weighted(contrast, on=("new",)),), trainables=(contrast, lora(2)))
    found = fit(model(), plan, {"new": table(20)}, SETTINGS).memory["supcon"]
    assert not [name for name in found if "parametrizations" in name]

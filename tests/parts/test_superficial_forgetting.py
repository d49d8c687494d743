"""SEFE's three pieces: entries that an update keeps away from, answer styles, and the two scores of one stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_continual import close, gradients, network, table, textbook
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.parts.losses.nll import nll
from regraft.parts.metrics.superficial_forgetting import forgetting_of, superficial_forgetting
from regraft.parts.penalties.reg_lora import reg_lora
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.lora import lora
from regraft.parts.transforms.answer_styles import answer_styles
from regraft.worlds.offline import context

PLAIN = Plan((Feed("new", shuffled()),), (Weighted(nll()),))


# --- RegLoRA ----------------------------------------------------------------------------------------------------------


def learned(model: Any, plan: Plan, steps: int, memory: dict[str, Any]) -> dict[str, Any]:
    return dict(fit(model, plan, {"new": table(12)}, Training(steps, 12, 0.1, clip=None), memory=memory).memory)


@pytest.mark.parametrize("M", [0.1, 0.3, 1.0])
def test_the_largest_entries_of_each_update_are_kept(M: float) -> None:
    model, memory = network(), {}
    union: dict[str, Tensor] = {}
    for _ in range(2):
        before = {n: w.clone() for n, w in model.state().items()}
        plan = PLAIN + Plan(penalties=(Weighted(reg_lora(M), 0.1),), trainables=(lora(2),))
        memory = learned(model, plan, 3, memory)
        for name, W in model.state().items():
            D = (W - before[name]).abs()
            if W.dim() == 2 and bool(D.any()) and (k := int(M * D.numel())):
                top = D.flatten().sort(descending=True).values[k - 1] <= D
                assert int(top.sum()) == k
                union[name] = union.get(name, torch.zeros_like(top)) | top
    assert union
    assert memory["reg_lora"].keys() == union.keys()
    assert all(torch.equal(memory["reg_lora"][name], at) for name, at in union.items())


def test_what_it_costs_to_change_them_again() -> None:
    W0 = {name: w for name, w in network().state().items() if w.dim() == 2}
    K = {name: torch.arange(w.numel()).view_as(w) % 3 == 0 for name, w in W0.items()}
    run = reg_lora().begin(context(model=network(), memory={"reg_lora": K}))
    dice = torch.Generator().manual_seed(1)
    moved = {n: w + torch.randn(w.shape, generator=dice, dtype=w.dtype) for n, w in network().weights().items()}
    wanted = torch.stack([(moved[n] - w)[K[n]].abs().sum() / K[n].sum() for n, w in W0.items()]).mean()
    assert close({"": run.penalty(moved)}, {"": wanted})
    assert float(run.penalty(network().weights()).detach()) == 0.0


def test_where_the_update_begins_nothing_pulls() -> None:
    rows = table(12)
    K = {name: torch.ones_like(w, dtype=torch.bool) for name, w in network().state().items() if w.dim() == 2}

    def loss(net: nn.Module, w: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(net(rows["x"]), rows["y"])

    plan = PLAIN + Plan(penalties=(Weighted(reg_lora(), 3.0),))
    assert close(gradients(plan, rows, {"reg_lora": K}), textbook(loss))


def test_of_a_first_update_nothing_is_held() -> None:
    one, other = network(), network()
    learned(one, PLAIN + Plan(trainables=(lora(2),)), 3, {})
    learned(other, PLAIN + Plan(penalties=(Weighted(reg_lora(0.5), 9.0),), trainables=(lora(2),)), 3, {})
    assert all(torch.equal(w, other.state()[name]) for name, w in one.state().items())


def test_knobs_that_cannot_be() -> None:
    with pytest.raises(RegraftError, match="M is 0"):
        reg_lora(0.0)
    with pytest.raises(RegraftError, match="no entry of any matrix"):
        learned(network(), PLAIN + Plan(penalties=(Weighted(reg_lora(1e-6), 1.0),)), 1, {})


# --- answer styles ----------------------------------------------------------------------------------------------------


def said(count: int, styles: int = 3) -> tuple[Rows, Rows]:
    """Rows of style 0, and each in the other styles."""
    of, style = torch.cartesian_prod(torch.arange(count), torch.arange(1, styles)).unbind(1)
    rows = Rows({"x": torch.arange(count) * 10})
    return rows, Rows({"x": of * 10 + style, "of": of, "style": style})


@pytest.mark.parametrize(("count", "X"), [(10, 0.2), (7, 0.6), (1, 1.0), (9, 1.0)])
def test_a_share_of_the_rows_is_said_otherwise(count: int, X: float) -> None:
    rows, others = said(count)
    x = answer_styles(X=X)(rows, context(data={"styles": others}))["x"]
    changed = (x % 10).bincount(minlength=3)[1:]
    assert (x // 10).tolist() == list(range(count))
    assert int(changed.sum()) == round(X * count)
    assert int(changed.max() - changed.min()) <= 1


def test_rows_without_another_saying_stay() -> None:
    rows, others = said(6)
    x = answer_styles(X=1.0)(rows, context(data={"styles": others.where(others["of"] != 2)}))["x"]
    assert x[2] == 20
    assert int((x % 10 > 0).sum()) == 5
    assert answer_styles(X=0.0)(rows, context(data={"styles": others})) is rows


def test_styles_that_cannot_be() -> None:
    rows, others = said(3)
    for data, X, problem in (
        (others, 1.5, "X is 1.5"),
        (others.having(of=others["of"] + 1), 1.0, "there are 3 rows"),
        (Rows.join([others, others]), 1.0, "twice in one style"),
    ):
        with pytest.raises(RegraftError, match=problem):
            answer_styles(X=X)(rows, context(data={"styles": data}))


# --- two scores -------------------------------------------------------------------------------------------------------

ASKED = np.array([[0.0, 0.0, 0.1], [0.9, 0.0, 0.1], [0.2, 0.8, 0.0], [0.1, 0.3, 1.0]])
KNOWN = np.array([[0.1, 0.2, 0.1], [0.9, 0.2, 0.2], [0.8, 0.8, 0.1], [0.5, 0.7, 1.0]])


def test_by_hand() -> None:
    assert forgetting_of({"asked": ASKED, "known": KNOWN}) == pytest.approx(
        {
            "asked_average": (0.1 + 0.3 + 1.0) / 3,
            "known_average": (0.5 + 0.7 + 1.0) / 3,
            "asked_stages": (0.9 + (0.2 + 0.8) / 2 + (0.1 + 0.3 + 1.0) / 3) / 3,
            "known_stages": (0.9 + (0.8 + 0.8) / 2 + (0.5 + 0.7 + 1.0) / 3) / 3,
            "asked_backward_transfer": ((0.1 - 0.9) + (0.3 - 0.8)) / 2,
            "known_backward_transfer": ((0.5 - 0.9) + (0.7 - 0.8)) / 2,
            "superficial": ((0.5 - 0.1) + (0.7 - 0.3)) / 2,
            "essential": ((0.9 - 0.5) + (0.8 - 0.7)) / 2,
        },
        abs=1e-12,
    )


def test_of_one_task_nothing_is_forgotten() -> None:
    found = forgetting_of({"answers": ASKED[:2, :1], "steps": KNOWN[:2, :1]})
    assert found == {"answers_average": 0.9, "answers_stages": 0.9, "steps_average": 0.9, "steps_stages": 0.9}


def test_of_a_table() -> None:
    version, task = torch.cartesian_prod(torch.arange(4), torch.arange(3)).unbind(1)
    rows = Rows(
        {
            "version": version,
            "task": task,
            "answers": torch.tensor(ASKED).flatten(),
            "steps": torch.tensor(KNOWN).flatten(),
        }
    )
    part = superficial_forgetting(scores=("answers", "steps"))
    found = part(network(), context(data={"matrix": rows}))
    assert found.numbers == forgetting_of({"answers": ASKED, "steps": KNOWN})
    assert found.tables == {"answers": ASKED.tolist(), "steps": KNOWN.tolist()}
    for odd, problem in (
        (rows.take(slice(0, 11)), "entry 3, 2 is nan"),
        (Rows.join([rows.only("version", "task", "steps")] * 2).having(answers=[0.0] * 24), "two scores of one task"),
        (rows.take(slice(0, 9)), "one version more"),
        (rows.having(task=task - 1), "from 0"),
    ):
        with pytest.raises(RegraftError, match=problem):
            part(network(), context(data={"matrix": odd}))


def test_scores_that_cannot_be() -> None:
    with pytest.raises(RegraftError, match="two are needed"):
        forgetting_of({"asked": ASKED})
    with pytest.raises(RegraftError, match="3 and 2 tasks"):
        forgetting_of({"asked": ASKED, "known": KNOWN[:3, :2]})

"""Bits to be remembered, and curricula that grow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from regraft.core.parts import Outcome, Progress, View
from regraft.core.rows import Rows
from regraft.parts.losses.nll import nll
from regraft.worlds.memory_tasks import (
    HEADS,
    WATCHED,
    Curriculum,
    LeakyRNN,
    Reader,
    _Growing,
    answers,
    growing,
    streams,
)


def test_what_is_right() -> None:
    bits = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 0, 1, 0]]).float()
    assert [answers(bits, "parity", N).tolist() for N in (2, 3, 5)] == [[1, 1], [0, 1], [1, 1]]
    assert [answers(bits, "match", N).tolist() for N in (2, 3, 4)] == [[0, 0], [1, 1], [1, 0]]
    lengths = {streams("match", 3, 4, torch.Generator().manual_seed(seed)).shape[1] for seed in range(200)}
    assert lengths == set(range(5, 14))


def test_the_state_leaks_and_no_unit_reads_itself() -> None:
    torch.manual_seed(0)
    network, u = LeakyRNN(5).double(), torch.rand(3, 7, 1, dtype=torch.float64)
    network.raw_tau.data = torch.tensor([0.5, 1.0, 2.0, 3.0, 8.0], dtype=torch.float64)
    tau, x = torch.tensor([1.0, 1.0, 2.0, 3.0, 8.0], dtype=torch.float64), torch.zeros(3, 5, dtype=torch.float64)
    W = network.W.weight.detach().clone().fill_diagonal_(0.0)
    for t in range(7):
        drive = x @ W.T + network.W.bias + u[:, t] @ network.read_in.weight.T + network.read_in.bias
        x = (1 - 1 / tau) * x + torch.where(drive > 0, drive, 0.01 * drive) / tau
    assert torch.allclose(network.states(u), x, atol=1e-12)


def drawn(curriculum: Curriculum, N: int) -> tuple[_Growing, Rows]:
    run = _Growing(growing("parity", curriculum), torch.Generator().manual_seed(0))
    run.N = N
    return run, run.draw(6)


def test_the_losses_of_the_heads_that_are_asked_add_up() -> None:
    _, rows = drawn("multi", 4)
    model = Reader(LeakyRNN(5))
    view = View(model, rows, {})
    each = -view.log_probs.gather(-1, rows["y"][..., None])[..., 0][:, :3]
    run = nll().begin(None)  # type: ignore[arg-type]
    assert torch.allclose(run.loss(view) * rows["scale"], each.sum(1))
    assert view.size is not None
    assert view.size.tolist() == [3.0] * 6
    _, alone = drawn("single", 4)
    assert alone["asked"].sum(1).tolist() == [1.0] * 6
    assert torch.equal(alone["y"][:, 0], answers(alone["x"][..., 0], "parity", 4))


@pytest.mark.parametrize(("curriculum", "then"), [("single", [4]), ("multi", [2, 3, 4])])
def test_it_moves_on_when_the_newest_is_known(curriculum: Curriculum, then: list[int]) -> None:
    run, rows = drawn(curriculum, 3)

    def hear(wrong: Tensor) -> None:
        logits = torch.nn.functional.one_hot((rows["y"] + wrong) % 2, 2).float()
        run.observe(Outcome("bits", rows, {}, Progress(0, 1), {"logits": logits}))

    nothing, newest = torch.zeros(6, HEADS, dtype=torch.long), torch.zeros(6, HEADS, dtype=torch.long)
    newest[:, len(run.trained) - 1] = 1
    for _ in range(WATCHED):
        hear(newest)
    assert run.N == 3
    for i in range(WATCHED):
        assert run.N == 3, i
        hear(nothing)
    assert run.N == 4
    assert run.trained == then
    assert run.leave() == {"solved": 3}


def test_a_curriculum_that_is_resumed_draws_the_same() -> None:
    one, _ = drawn("multi", 5)
    other, _ = drawn("multi", 2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.draw(3)["x"], other.draw(3)["x"])
    assert other.N == 5

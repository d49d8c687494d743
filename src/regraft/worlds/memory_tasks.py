"""Bits to be remembered, ever longer: what a recurrent network learns under two curricula.

    x(t+1) = (1 - 1/tau) x(t) + (1/tau) phi(W x(t) + W_in u(t) + b)        tau >= 1, one per unit and trained

    parity    the parity of the last N bits
    match     whether the last bit is the one N - 1 before it (delayed match to sample)

    single    one read-out, trained on N alone; then on N + 1
    multi     a read-out for every N so far, all trained together; then one more

N starts at 2 and grows when the accuracy of the last updates, in the mean and on the newest N, is over 98%.

Paper: "Emergent mechanisms for long timescales depend on training curriculum and affect performance in memory tasks"
       Khajehabdollahi et al. 2024. https://arxiv.org/abs/2309.12927
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.parts import Context, Out, Outcome, Stateful
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.base import TorchModel
from regraft.numerics.dice import seeded
from regraft.parts.losses.nll import nll

Task: TypeAlias = Literal["parity", "match"]
Curriculum: TypeAlias = Literal["single", "multi"]
FIRST, HEADS, ADVANCE, WATCHED = 2, 40, 0.98, 30
UNITS, BATCH, LR = 64, 64, 0.1
TESTED = 1000


class LeakyRNN(nn.Module):
    """Maps bits [rows, time, 1] to logits [rows, heads, 2], read from the last state."""

    others: Tensor

    def __init__(self, units: int = UNITS, heads: int = HEADS) -> None:
        super().__init__()
        self.read_in, self.W = nn.Linear(1, units), nn.Linear(units, units)
        self.raw_tau = nn.Parameter(1 + torch.rand(units))
        self.heads = nn.Linear(units, 2 * heads)
        self.register_buffer("others", 1 - torch.eye(units), persistent=False)

    @property
    def tau(self) -> Tensor:
        return self.raw_tau.clamp(min=1.0)

    def states(self, bits: Tensor) -> Tensor:
        """The last state, [rows, units]."""
        u, leak, W = self.read_in(bits), 1 / self.tau, self.W.weight * self.others
        x: Tensor = u.new_zeros(len(u), W.shape[0])
        for now in u.unbind(1):
            x = (1 - leak) * x + leak * F.leaky_relu(F.linear(x, W, self.W.bias) + now)
        return x

    def forward(self, bits: Tensor) -> Tensor:
        logits: Tensor = self.heads(self.states(bits)).unflatten(1, (-1, 2))
        return logits


class Reader(TorchModel):
    """Rows have bits `x`, answers `y` [rows, heads], and which heads are `asked`, [rows, heads]."""

    def read(self, rows: Rows) -> Out:
        return Out(self.runner(rows["x"]), rows["y"], rows["asked"])

    def sizes(self, rows: Rows) -> Tensor | None:
        asked: Tensor = rows["asked"]
        return asked.sum(1)

    def cost(self, rows: Rows) -> int:
        return int(rows["x"].numel())


def answers(bits: Tensor, task: Task, N: int) -> Tensor:
    """The right answer of each row of bits [rows, time], int64 [rows]."""
    if task == "parity":
        return bits[:, -N:].sum(1).long() % 2
    return (bits[:, -1] == bits[:, -N]).long()


def streams(task: Task, N: int, count: int, dice: torch.Generator) -> Tensor:
    """Bits [count, time], of a random length over N; for parity each row has its own share of ones."""
    length = int(torch.randint(N + 2, 4 * N + 2, (), generator=dice))
    ones = torch.rand(count, 1, generator=dice) if task == "parity" else torch.full((count, 1), 0.5)
    return (torch.rand(count, length, generator=dice) < ones).float()


@dataclass(frozen=True)
class growing:
    """Draws streams of bits for the N that are trained, and moves on when they are known."""

    task: Task
    curriculum: Curriculum

    def begin(self, ctx: Context) -> _Growing:
        return _Growing(self, ctx.rng)


class _Growing(Stateful):
    state = ("N", "right", "dice")
    wants: tuple[Literal["logits", "features"], ...] = ("logits",)

    def __init__(self, part: growing, dice: torch.Generator) -> None:
        self.part, self.dice = part, dice
        self.N = FIRST
        self.right: list[list[float]] = []

    @property
    def trained(self) -> list[int]:
        return [self.N] if self.part.curriculum == "single" else list(range(FIRST, self.N + 1))

    def draw(self, count: int) -> Rows:
        bits = streams(self.part.task, self.N, count, self.dice)
        y = torch.zeros(count, HEADS, dtype=torch.long)
        for head, N in enumerate(self.trained):
            y[:, head] = answers(bits, self.part.task, N)
        asked = (torch.arange(HEADS) < len(self.trained)).float().expand(count, -1)
        # The losses of the heads add up.
        return Rows({"x": bits[..., None], "y": y, "asked": asked, "scale": asked.sum(1)})

    def observe(self, outcome: Outcome) -> None:
        heads = len(self.trained)
        said = outcome.outputs["logits"][:, :heads].argmax(-1)
        self.right.append((said == outcome.rows["y"][:, :heads]).float().mean(0).tolist())
        self.right = self.right[-WATCHED:]
        known = torch.tensor(self.right).mean(0)
        if len(self.right) == WATCHED and known.mean() > ADVANCE and known[-1] > ADVANCE and self.N - FIRST + 1 < HEADS:
            self.N, self.right = self.N + 1, []

    def leave(self) -> dict[str, int]:
        """The largest N that was solved; under FIRST, none."""
        return {"solved": self.N - 1}


def learned(
    meter: Meter | None, seed: int, task: Task, curriculum: Curriculum, *, steps: int, units: int = UNITS
) -> dict[str, float]:
    """What a network comes to in so many updates.

    `N`: the largest that it solved. `earlier`: accuracy on every N before it, by its own head or the only one;
    `earlier, read anew`: by heads fitted to its states afterwards. `tau`: mean time constant.
    """
    with seeded(seed):
        network = LeakyRNN(units)
    plan = Plan((Feed("bits", growing(task, curriculum)),), (Weighted(nll()),))
    knobs = {"momentum": 0.1, "nesterov": True}
    training = Training(steps, BATCH, LR, optimizer="SGD", knobs=knobs, clip=2.0, seed=seed, explode=1e9, log_every=100)
    with one_thread():
        solved = int(fit(Reader(network), plan, {}, training, meter=meter).memory["solved"])
        earlier = range(FIRST, max(solved, FIRST + 1))
        each = [accuracies(network, task, N, 0 if curriculum == "single" else N - FIRST) for N in earlier]
    by_own, anew = torch.tensor(each, dtype=torch.float64).mean(0).tolist()
    tau = float(network.tau.detach().mean())
    return {"N": float(solved), "earlier": by_own, "earlier, read anew": anew, "tau": tau}


@torch.no_grad()
def accuracies(network: LeakyRNN, task: Task, N: int, head: int) -> tuple[float, float]:
    """On N, of a head that the network has, and of one that is fitted to its states on other bits."""
    from sklearn.linear_model import LogisticRegression

    dice = torch.Generator().manual_seed(N)
    fitted, tested = (streams(task, N, TESTED, dice) for _ in range(2))
    x, held = network.states(fitted[..., None]), network.states(tested[..., None])
    y, right = answers(fitted, task, N), answers(tested, task, N)
    said = network.heads(held).unflatten(1, (-1, 2))[:, head].argmax(-1)
    anew = LogisticRegression(max_iter=1000).fit(x.numpy(), y.numpy())
    return float((said == right).double().mean()), float(anew.score(held.numpy(), right.numpy()))

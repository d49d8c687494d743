"""Liquid networks: recurrent cells whose time constants depend on what they read.

    LTC    dx/dt = -(1/tau + f(x, u)) x + f(x, u) A        f = sigmoid(W [u, x] + b)
           x <- (x + dt f A) / (1 + dt (1/tau + f))        `substeps` times a sample, dt = t / substeps
    CfC    x <- sigmoid(-f t) g + (1 - sigmoid(-f t)) h    -f t = -(a t + c); g, h = tanh; all read one hidden layer

x: the state, u: the input (the papers' I), t: the time since the last sample. The LTC's fused step is implicit in x and
explicit in f, so that its state stays within the largest |A|; the CfC needs no solver.

Paper: "Liquid Time-constant Networks" Hasani et al. 2021. https://arxiv.org/abs/2006.04439
Paper: "Closed-form Continuous-time Neural Networks" Hasani et al. 2022. https://arxiv.org/abs/2106.13898
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import RegraftError


class LTCCell(nn.Module):
    """A liquid time-constant cell with one gate per unit (the authors' has one per synapse)."""

    def __init__(self, inputs: int, units: int, *, substeps: int = 6) -> None:
        super().__init__()
        if substeps < 1:
            raise RegraftError(f"LTC: {substeps} sub-steps; there must be at least 1")
        self.units, self.substeps = units, substeps
        self.f = nn.Linear(inputs + units, units)
        self.A = nn.Parameter(torch.empty(units).uniform_(-1.0, 1.0))
        self.raw_tau = nn.Parameter(torch.zeros(units))

    @property
    def tau(self) -> Tensor:
        """The time constants without input, [units], over 0."""
        return F.softplus(self.raw_tau)

    def forward(self, u: Tensor, x: Tensor, t: float = 1.0) -> Tensor:
        dt, leak = t / self.substeps, 1 / self.tau
        for _ in range(self.substeps):
            f = self.f(torch.cat([u, x], -1)).sigmoid()
            x = (x + dt * f * self.A) / (1 + dt * (leak + f))
        return x


class CfCCell(nn.Module):
    """A closed-form continuous-time cell."""

    def __init__(self, inputs: int, units: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.units = units
        self.hidden = nn.Linear(inputs + units, hidden)
        self.g, self.h, self.a, self.c = (nn.Linear(hidden, units) for _ in range(4))

    def forward(self, u: Tensor, x: Tensor, t: float = 1.0) -> Tensor:
        hidden = 1.7159 * torch.tanh(2 / 3 * self.hidden(torch.cat([u, x], -1)))
        gate = torch.sigmoid(-(self.a(hidden) * t + self.c(hidden)))
        found: Tensor = gate * self.g(hidden).tanh() + (1 - gate) * self.h(hidden).tanh()
        return found


class Recurrent(nn.Module):
    """A cell over the places of a sequence, and a linear layer that reads its last state.

    Maps [rows, time, features] to [rows, targets].
    """

    def __init__(self, cell: LTCCell | CfCCell, targets: int = 1) -> None:
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(cell.units, targets)

    def forward(self, sequences: Tensor) -> Tensor:
        x = sequences.new_zeros(len(sequences), self.cell.units)
        for u in sequences.unbind(1):
            x = self.cell(u, x)
        read: Tensor = self.head(x)
        return read

"""Loads of network links, forecast one sample ahead, before and after a failure that reroutes traffic at a known time.

    load_i(t) = level_i (1 + day_i(t) + noise)        day: a sum of sines of a day and half a day, of phases of its own
    from t0 on: level_i times the severity, the day shifted by a quarter

One network forecasts all links from the last samples of each, in units of the mean load before the failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import Meter, fit
from regraft.engine.training import Training
from regraft.models.liquid import CfCCell, LTCCell, Recurrent
from regraft.models.regressor import Regressor
from regraft.numerics.dice import seeded
from regraft.parts.losses.squared_error import squared_error
from regraft.parts.samplers.shuffled import shuffled

LINKS, DAY, DAYS, WINDOW, NOISE, UNITS = 8, 48, 20, 24, 0.05, 32
REFIT, AFTER = 200, 600
STEPS, REFIT_STEPS, BATCH, LR = 600, 100, 64, 3e-3
SEVERITIES = {"mild": 1.2, "x2": 2.0, "x3": 3.0}


@dataclass(frozen=True)
class Traffic:
    """`before` [DAYS * DAY, links] and `after` the failure, [AFTER, links] by severity; mean load before it is 1."""

    before: Tensor
    after: dict[str, Tensor]


class Gru(nn.Module):
    """A gated recurrent unit over the window, and a linear layer."""

    def __init__(self, units: int = UNITS) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(1, units, batch_first=True), nn.Linear(units, 1)

    def forward(self, x: Tensor) -> Tensor:
        read: Tensor = self.head(self.gru(x)[0][:, -1])
        return read


def mlp() -> nn.Module:
    """The window as one vector, two layers of ReLU."""
    layers = [nn.Linear(WINDOW, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)]
    return nn.Sequential(nn.Flatten(), *layers)


def cfc() -> nn.Module:
    return Recurrent(CfCCell(1, UNITS))


def ltc() -> nn.Module:
    return Recurrent(LTCCell(1, UNITS))


class Scaled(nn.Module):
    """A network that reads each window, and forecasts, in units of the window's mean."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True).clamp(min=1e-6)
        forecast: Tensor = mean[:, 0] * self.network(x / mean)
        return forecast


def traffic(seed: int) -> Traffic:
    dice = torch.Generator().manual_seed(seed)
    level = (0.5 * torch.randn(LINKS, generator=dice)).exp()
    phase = 2 * math.pi * torch.rand(2, LINKS, generator=dice)
    size = torch.tensor([[0.5], [0.2]]) * (0.5 + torch.rand(2, LINKS, generator=dice))

    def load(t: Tensor, times: float, shift: float) -> Tensor:
        angle = 2 * math.pi * t[:, None] / DAY
        day = sum(size[k] * torch.sin((k + 1) * (angle + shift) + phase[k]) for k in range(2))
        return level * times * (1 + day + NOISE * torch.randn(len(t), LINKS, generator=dice))

    end = DAYS * DAY
    before = load(torch.arange(end), 1.0, 0.0)
    after = {name: load(torch.arange(end, end + AFTER), times, math.pi / 2) for name, times in SEVERITIES.items()}
    mean = before.mean()
    return Traffic(before / mean, {name: each / mean for name, each in after.items()})


def windows(loads: Tensor) -> Rows:
    """Samples after the first WINDOW, `y` [rows, 1], each with those before it, `x` [rows, WINDOW, 1]; of all links."""
    x = loads.unfold(0, WINDOW + 1, 1).flatten(0, 1)[..., None]
    return Rows({"x": x[:, :-1], "y": x[:, -1]})


def forecast(
    network: Callable[[], nn.Module],
    meter: Meter | None,
    seed: int,
    *,
    refitted: bool = False,
) -> dict[str, float]:
    """Mean absolute errors: over the day before the failure; over the REFIT samples after it, and over the last REFIT.

    Args:
        refitted: every REFIT samples the network is trained on, on those samples alone; else it stays as it is.
    """
    loads = traffic(seed)
    with seeded(seed):
        model = Regressor(network())
    _train(model, windows(loads.before[:-DAY]), STEPS, seed, meter)
    found = {"before": error(model, loads.before[-DAY - WINDOW :])}
    start = {name: tensor.clone() for name, tensor in model.state().items()}
    for name, after in loads.after.items():
        model.load(start)
        series = torch.cat([loads.before[-WINDOW:], after])
        errors = []
        for at in range(0, AFTER, REFIT):
            errors.append(error(model, series[at : at + WINDOW + REFIT]))
            if refitted and at + REFIT < AFTER:
                _train(model, windows(series[at : at + WINDOW + REFIT]), REFIT_STEPS, seed + 1 + at, meter)
        found |= {f"{name}, at once": errors[0], f"{name}, later": errors[-1]}
    return found


def persistence(seed: int) -> dict[str, float]:
    """The same errors of forecasting the last sample."""
    loads = traffic(seed)
    found = {"before": _mae(loads.before[-DAY - 1 :])}
    for name, after in loads.after.items():
        series = torch.cat([loads.before[-1:], after])
        found |= {f"{name}, at once": _mae(series[: REFIT + 1]), f"{name}, later": _mae(series[-REFIT - 1 :])}
    return found


def _mae(series: Tensor) -> float:
    return float(series.diff(dim=0).abs().mean())


@torch.no_grad()
def error(model: Regressor, loads: Tensor) -> float:
    """Mean absolute error over all samples after the first WINDOW."""
    rows = windows(loads)
    return float((model.module(rows["x"]) - rows["y"]).abs().mean())


def _train(model: Regressor, rows: Rows, steps: int, seed: int, meter: Meter | None) -> None:
    plan = Plan((Feed("new", shuffled()),), (Weighted(squared_error()),))
    training = Training(steps, BATCH, LR, optimizer="Adam", seed=seed, log_every=steps)
    fit(model, plan, {"new": rows}, training, meter=meter)

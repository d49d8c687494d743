"""Links whose loads jump."""

from __future__ import annotations

import torch

from regraft.worlds.links import AFTER, DAY, DAYS, LINKS, WINDOW, Scaled, mlp, traffic, windows


def test_windows_hold_what_came_before_each_sample() -> None:
    loads = torch.arange(30.0)[:, None] + torch.tensor([0.0, 100.0])
    rows = windows(loads)
    assert rows["x"].shape == (2 * (30 - WINDOW), WINDOW, 1)
    first = torch.arange(float(WINDOW))
    assert torch.equal(rows["x"][:2, :, 0], torch.stack([first, first + 100]))
    assert torch.equal(rows["y"][:3, 0], torch.tensor([WINDOW, WINDOW + 100.0, WINDOW + 1.0]))


def test_a_failure_multiplies_the_level() -> None:
    loads = traffic(0)
    assert loads.before.shape == (DAYS * DAY, LINKS)
    assert torch.isclose(loads.before.mean(), torch.tensor(1.0))
    level = loads.before.mean(0)
    for name, times in (("mild", 1.2), ("x2", 2.0), ("x3", 3.0)):
        assert loads.after[name].shape == (AFTER, LINKS)
        assert torch.allclose(loads.after[name][: 12 * DAY].mean(0), times * level, rtol=0.05)
    # Shifted by a quarter of a day: twelve samples earlier.
    for before, after in zip(loads.before[-DAY:].T, loads.after["x2"][:DAY].T, strict=True):
        assert torch.corrcoef(torch.stack([after, before.roll(-DAY // 4)]))[0, 1] > 0.9


def test_a_scaled_network_does_not_see_the_level() -> None:
    torch.manual_seed(0)
    network = Scaled(mlp())
    x = torch.rand(5, WINDOW, 1) + 0.1
    assert torch.allclose(network(3 * x), 3 * network(x), rtol=1e-4)

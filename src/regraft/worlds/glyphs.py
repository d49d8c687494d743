"""Letters that look like the digits and are none: settings for streams of digits can be chosen on them."""

from __future__ import annotations

import torch

from regraft.worlds.tables import Split, split

_LETTERS = {  # rows of five dots, as on old displays
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 14),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "J": (7, 2, 2, 2, 2, 18, 12),
}


def glyphs(seed: int, *, count: int = 1800, noise: float = 0.25) -> Split:
    """Ten letters as images of 8 x 8, given as 64 numbers: shifted, in strokes of different weight, with noise."""
    dice = torch.Generator().manual_seed(seed)
    dots = torch.tensor([[[row >> (4 - i) & 1 for i in range(5)] for row in rows] for rows in _LETTERS.values()])
    y = torch.randint(0, len(dots), (count,), generator=dice)
    x = torch.zeros(count, 8, 8)
    down, right = torch.randint(0, 2, (count,), generator=dice), torch.randint(0, 4, (count,), generator=dice)
    row, column = torch.arange(7)[None, :, None] + down[:, None, None], torch.arange(5) + right[:, None, None]
    x[torch.arange(count)[:, None, None], row, column] = dots[y].float()
    blur = torch.rand(count, 1, 1, generator=dice) * 0.6
    x = x + blur * (x.roll(1, 1) + x.roll(1, 2)) / 2 + noise * torch.randn(count, 8, 8, generator=dice)
    x = x.flatten(1)
    return split((x - x.mean(0)) / x.std(0), y, seed)

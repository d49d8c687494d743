"""Loss weights that stand in for temperature sampling: read the sources as they come, count the rare ones more.

    w_i = p_tau(i) / p_1(i),    p_tau(i) = |D_i|^(1/tau) / sum_j |D_j|^(1/tau)

Each row's `scale`, a factor on its loss that the pooled mean is not divided by, is multiplied by its source's w_i;
tau = 1 is absence. The expected gradient is that of temperature sampling; a mini-batch's varies more, as few rare rows
count much.

Paper:   "Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets" Li et al. 2024. https://arxiv.org/abs/2410.04579
Needs:   a column `source`: a name or number for each row.
Tags:    loss weighting, imbalance, any data
"""

from __future__ import annotations

import torch

from regraft.core.define import transform
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.numerics.mixture import places_by, sizes_of, tempered, values


@transform
def upweight(rows: Rows, ctx: Context, *, tau: float = 5.0) -> Rows:
    places = places_by(rows, "source")
    sizes = sizes_of(places)
    scale = torch.ones(rows.count)
    for place, w_i in zip(places.values(), (tempered(sizes, tau) * rows.count / sizes).tolist(), strict=True):
        scale[place] = w_i
    if bool((scale == 1).all()):
        return rows
    return rows.having(scale=scale * torch.as_tensor(values(rows, "scale")) if "scale" in rows else scale)

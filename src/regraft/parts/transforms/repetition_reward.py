"""A reward for not repeating oneself: minus how many of an answer's runs of tokens were there before in it.

    R_r = - most (number of n-grams of r - number of different ones) / number of n-grams of r

An answer that is shorter than n tokens has a reward of 0.

Paper: "Advancing Language Model Reasoning through Reinforcement Learning and Inference Scaling" Hou et al. 2025.
       https://arxiv.org/abs/2501.11651
Needs: columns `targets` and `counts`, as rollouts have them.
Differs: the measure is ours: of the paper we know only that repetition is penalised.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows


@transform
def repetition_reward(rows: Rows, ctx: Context, *, n: int = 4, most: float = 1.0) -> Rows:
    if n < 1 or most < 0:
        raise RegraftError(f"repetition_reward: n is {n}, most {most}; n must be 1 or more, most 0 or more")
    ids: Tensor = rows["targets"]
    if ids.shape[1] < n:
        return rows.having(reward=torch.zeros(rows.count))
    own = (rows["counts"] > 0).unfold(1, n, 1).all(2)
    grams = ids.unfold(1, n, 1)[own]
    row = torch.arange(rows.count)[:, None].expand_as(own)[own]
    different = torch.cat([row[:, None], grams], 1).unique(dim=0)[:, 0]
    count, once = (each.bincount(minlength=rows.count).double() for each in (row, different))
    return rows.having(reward=(-most * (count - once) / count.clamp(min=1.0)).float())

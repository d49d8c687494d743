"""Answers by the nearest prototype: the head's rows are made of length 1 and its bias 0.

    argmax_c f·p_c / ||p_c|| = argmax_c cos(f, p_c)        p_c: the head's weights of class c

Paper:   "Prototype-Sample Relation Distillation: Towards Replay-Free Continual Learning" Asadi et al. 2023.
         https://arxiv.org/abs/2303.14771
Needs:   a model with a head. As a release it leaves the lengths of the model that goes on alone.
Tags:    prototypes, exemplar-free
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from regraft.core.define import edit
from regraft.core.parts import Context, Weights
from regraft.numerics.features import head_name


@edit
def unit_prototypes(weights: Weights, ctx: Context) -> Weights:
    head = head_name(ctx.models["student"], "unit_prototypes")
    unit = {f"{head}.weight": F.normalize(weights[f"{head}.weight"], dim=1)}
    bias = weights.get(f"{head}.bias")
    return unit if bias is None else {**unit, f"{head}.bias": torch.zeros_like(bias)}

"""SEFE: a low-rank change for each task, folded in, that keeps away from what earlier ones changed most.

The other half of the method is in the data: tasks are learned in several answer styles, see `answer_styles`.

Paper:   "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction Tuning" Chen et al.
         2025. https://arxiv.org/abs/2505.02486
Differs: the change that is held is scaled by alpha / r = 2 here, so that a strength of 1250 is the authors' 2500; their
         r is 128.
Tags:    weight regularisation, low rank, pretrained, exemplar-free, class-incremental, language model,
         continual fine-tuning
"""

from __future__ import annotations

from regraft.core.plan import Plan, Weighted
from regraft.parts.penalties.reg_lora import reg_lora
from regraft.parts.trainables.lora import lora
from regraft.recipes.strategy import Strategy, method


@method(tune={"strength": (100.0, 1250.0), "M": (0.02, 0.1)}, null={"strength": 0.0, "r": None})
def sefe(*, strength: float = 1250.0, M: float = 0.02, r: int | None = 8) -> Strategy:
    """`r`: the rank of a task's change; None: any, for every weight moves."""
    low = () if r is None else (lora(r, 2.0 * r),)
    return Strategy(Plan(penalties=(Weighted(reg_lora(M), strength),), trainables=low))

"""EWC-LoRA: a change of low rank, held where it would change weights that mattered before.

    loss + strength · sum_ij F_ij (s (B A)_ij)²        s = alpha / r, for every matrix that has a change

F is of the frozen matrix, at the weights before the change. LoRA's penalties see W + s B A, so this is EWC with its
anchor at W, twice as strong: EWC has the half of a Taylor expansion, the authors' code has none.

Paper:   "Language Models Meet World Models: Embodied Experiences Enhance Language Models" Xiang et al. 2023.
         https://arxiv.org/abs/2305.10626
Differs: without dropout, weights in full precision, every linear layer but the last is changed; the authors change
         queries and values. A later task finds F of those before it added up, as in online EWC; they learn one.
Tags:    low rank, weight regularisation, pretrained, exemplar-free, domain-incremental, language model,
         continual fine-tuning
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.ewc_anchor import ewc_anchor
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.ewc import ewc
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.linear import linear
from regraft.parts.trainables.lora import lora
from regraft.recipes.strategy import Stage, Strategy, method


@method(tune={"strength": (1.0, 1e3, 1e6)}, null={"strength": 0.0, "r": None})
def ewc_lora(
    *, strength: float = 1.0, r: int | None = 8, alpha: float = 32.0, rows: int | None = None, known: bool = False
) -> Strategy:
    """`known`: the first task is what the network was pretrained on, and is measured in place of being learned; the
    rate of each later task decays to zero, as the authors' does.

    `r`: the rank of a change; None: any, for every weight moves. `rows`: how many rows F is estimated of; None: all.
    """
    low = () if r is None else (lora(r, alpha),)
    held = Plan(penalties=(Weighted(ewc(rows=rows), 2 * strength),), trainables=low)
    if not known:
        return Strategy(held)
    learned = Plan((Feed("new", shuffled()),), (Weighted(nll()),), lr=linear()) + held
    return Strategy(before=(ewc_anchor(rows=rows),), after=(Stage(learned, tasks="later"),), epochs=0.0)

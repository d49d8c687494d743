"""LT-SFT: every task is a sparse vector beside the weights that the stream began with; a version adds them all.

Half of the training finds which entries the task needs, the other half trains those from the start again.

Paper: "Composable Sparse Fine-Tuning for Cross-Lingual Transfer" Ansell et al. 2022. https://arxiv.org/abs/2110.07560
Tags:  sparse, composable, exemplar-free, class-incremental, task-incremental, domain-incremental, language model
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.add_sparse import add_sparse
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.l1_start import l1_start
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.sparse_vector import sparse_vector
from regraft.parts.trainables.ticket import ticket
from regraft.recipes.strategy import Stage, Strategy, method


@method(tune={"K": (0.1, 0.3, 0.03)})
def lt_sft(*, K: float = 0.1, strength: float = 0.1) -> Strategy:
    near = Plan(penalties=(Weighted(l1_start(), strength),))
    choosing = Plan((Feed("new", shuffled()),), (Weighted(nll()),), trainables=(ticket(K),)) + near
    return Strategy(
        Plan(trainables=(sparse_vector(),)) + near,
        before=(Stage(choosing, 0.5),),
        release=(add_sparse(),),
        epochs=0.5,
    )

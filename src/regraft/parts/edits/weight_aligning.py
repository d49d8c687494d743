"""Weight aligning: the head's rows of new classes are made as long, on average, as those of old ones.

    w_c <- gamma w_c,  b_c <- gamma b_c        c new, gamma = mean_{old} || w_c || / mean_{new} || w_c ||

Of a few old rows and many new ones the new classes' weights grow longer, and rows of old classes fall to them. It needs
no row and no training, and what it gives is the model that goes on.

Paper:   "Maintaining Discrimination and Fairness in Class Incremental Learning" Zhao et al. 2020. https://arxiv.org/abs/1911.07053
Claim:   the same model, taught by distillation and exemplars, is more accurate with it by 5 points, and than
         plain replay.
Needs:   a head; the rows named by `source`, which say what classes are new. Without old classes it changes nothing.
Differs: the paper's head has no bias; here a bias is scaled with its row, so that the logit is scaled as there.
Tags:    class-incremental
"""

from __future__ import annotations

from regraft.core.define import edit
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Weights
from regraft.numerics.classes import old_and_new
from regraft.numerics.features import head_name


@edit
def weight_aligning(weights: Weights, ctx: Context, *, source: str = "new") -> Weights:
    head = head_name(ctx.models["student"], "weight_aligning")
    W = weights[f"{head}.weight"]
    old, new = (classes.to(W.device) for classes in old_and_new(ctx, source))
    if not len(old) or not len(new):
        return {}
    length = W.norm(dim=1)
    if not bool(length[new].any()):
        raise RegraftError("weight_aligning: the weights of the new classes are all 0", do="Lower the learning rate")
    gamma = length[old].mean() / length[new].mean()
    rows = {name: weights[name] for name in (f"{head}.weight", f"{head}.bias") if name in weights}
    return {name: tensor.index_copy(0, new, gamma * tensor[new]) for name, tensor in rows.items()}

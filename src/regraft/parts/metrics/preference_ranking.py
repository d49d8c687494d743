"""Whether a model ranks pairs of answers as it was taught to: its likelihood, beside the margin that training moves.

    ranking      share of pairs with log pi(y_w) > log pi(y_l)            also per token of each answer
    margin       share with log pi(y_w) - log pi(y_l) > -c                what a preference loss asks for
    idealised    share with log(a / (1 - a)) / beta > c                   the ranking of the policy that minimises DPO
    gap          idealised - ranking
    flipped      of the pairs with c > 0, the share that is ranked rightly

    c = log pi_ref(y_l) - log pi_ref(y_w): how far the reference is from ranking the pair rightly

A pair is ranked rightly if and only if its DPO loss is at most -log sigma(beta c); with c well over 0 that is a loss
which training seldom reaches, though the margin is right. Table `flips`: pairs by quintiles of c.

Paper:   "Preference Learning Algorithms Do Not Learn Preference Rankings" Chen et al. 2024.
         https://arxiv.org/abs/2405.19534
Claim:   DPO gets nearly all margins right while the ranking gains less than half as much; the larger c, the fewer pairs
         are flipped.
Needs:   rows `pairs` as `direct_preference` reads them; a column `agreed`, a: the part of people who prefer y_w, for
         what is idealised; a model in the role `reference`.
Tags:    diagnostic, preference optimisation, language model
"""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.define import metric
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Measurement, Model, View
from regraft.numerics.evaluating import evaluating
from regraft.numerics.token_loss import column, said

PARTS = 5


@metric
def preference_ranking(
    model: Model,
    ctx: Context,
    *,
    pairs: str = "pairs",
    reference: str = "before",
    beta: float = 0.1,
    batch: int = 16,
) -> Measurement:
    rows = ctx.rows(pairs)
    if not rows:
        raise RegraftError("there is no pair", where=f"rows {pairs!r}")
    if not beta > 0 or batch < 1:
        raise RegraftError(f"preference_ranking: beta {beta} must be over 0, batch {batch} at least 1")
    found = []
    with torch.no_grad(), evaluating(model):
        for some in rows.chunks(batch):
            seen = View(model, some.to(model.device), ctx.models)
            found.append(torch.stack([*_leads(seen), _leads(seen.by(reference))[0]]))
    lead, per_token, reference_lead = torch.cat(found, 1).double().cpu()
    c, right = -reference_lead, lead > 0
    numbers = {
        "ranking": _share(right),
        "ranking_per_token": _share(per_token > 0),
        "reference": _share(reference_lead > 0),
        "margin": _share(lead > -c),
    }
    if bool((c > 0).any()):
        numbers["flipped"] = _share(right[c > 0])
    if "agreed" in rows:
        a = torch.as_tensor(rows["agreed"]).double()
        if len(odd := (~((a >= 0) & (a <= 1))).nonzero()):
            at = int(odd[0])
            raise RegraftError(f"row {at} has {a[at].item()} in `agreed`; it is a part, from 0 to 1", where=pairs)
        numbers["idealised"] = _share(a.logit() / beta > c)
        numbers["gap"] = numbers["idealised"] - numbers["ranking"]
    flips = [
        {"c_from": float(c[its].min()), "c_to": float(c[its].max()), "pairs": len(its), "ranking": _share(right[its])}
        for its in c.argsort().tensor_split(PARTS)
        if len(its)
    ]
    return Measurement(numbers, {"flips": flips})


def _leads(view: View) -> tuple[Tensor, Tensor]:
    """log pi(y_w) - log pi(y_l) of each pair, and the same per token of each answer, [rows]."""
    log_probs, counts = said(view)
    side = column(view, "side", log_probs) * counts
    sums, sizes = ([(x * (side * sign > 0)).sum(1) for sign in (1, -1)] for x in (log_probs * counts, counts))
    preferred, other = (total / size.clamp(min=1.0) for total, size in zip(sums, sizes, strict=True))
    return sums[0] - sums[1], preferred - other


def _share(right: Tensor) -> float:
    return float(right.double().mean())

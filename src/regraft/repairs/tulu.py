"""Three stages: demonstrations, preference among the model's own answers, rewards that can be verified.

    SFT     -log pi(demonstration)                                                       a part `supervised`
    DPO     -log sigma(beta m(y_w) - beta m(y_l)),   m(y) = log(pi / pi_ref)(y) / |y|    a part `preferred`
            of a right and a wrong answer of the model as SFT leaves it; pairs that are at hand, too
    RLVR    E[v(x, y) - kl log(pi / pi_ref)(y)] by PPO,   v: what the judge says         the rest

The learning rate of each stage is its `rates` times the whole's.

Paper:   "TÜLU 3: Pushing Frontiers in Open Language Model Post-Training" Lambert et al. 2024.
         https://arxiv.org/abs/2411.15124
Claim:   over all skills each stage is better than the one before it.
Needs:   questions whose answers can be checked; demonstrations.
Differs: answers to prefer are the model's own alone; the judge, not another model, says which; the value head begins
         from nothing, not from a reward model. The paper's rates are 1, 0.1 and 0.06 of that of SFT at 8 billion
         weights.
Tags:    demonstrations, preference optimisation, reinforcement learning, language model
"""

from __future__ import annotations

import torch

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.numerics.answers import join_blocks
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.repairing import PAIRS, Workshop, repair
from regraft.repairs import ppo
from regraft.repairs.own_preferences import pairs_of


@repair
def tulu(
    w: Workshop,
    *,
    supervised: float = 0.5,
    preferred: float = 0.2,
    rates: tuple[float, float, float] = (1.0, 0.1, 0.06),
    beta: float = 5.0,
    each: int = 2,
    kl: float = 0.05,
) -> None:
    if not (supervised >= 0 and preferred >= 0 and supervised + preferred <= 1 and each >= 1):
        raise RegraftError("tulu: supervised and preferred together must be at most 1, each 1 or more")
    updates = w.left
    if w.lesson.shown is not None:
        w.fit(w.imitated(), round(supervised * updates), lr=rates[0])
    found = [pairs_of(w.tried(), each)] if preferred else []
    if w.lesson.pairs is not None:
        found.append(w.lesson.pairs.only("input_ids", "targets", "counts", "positions", "side"))
    pairs = join_blocks([rows for rows in found if rows])
    w.note(f"pairs      {pairs.count} of right and wrong answers")
    if pairs:
        loss = Weighted(direct_preference(beta, per="token"), on=(PAIRS,))
        plan = Plan((Feed(PAIRS, shuffled(PAIRS)),), (loss,))
        rows = pairs.having(row=torch.arange(pairs.count))
        w.fit(plan, round(preferred * updates), lr=rates[1], data={PAIRS: rows})
    w.fit(ppo.plan(w, gamma=1.0, lam=0.95, beta=kl, clip=0.2, alpha=0.1, epochs=2, head=1.0), lr=rates[2])

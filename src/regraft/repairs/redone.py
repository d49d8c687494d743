"""Explore, repair, refine: reinforcement on everything, demonstrations of what fails, reinforcement of what is hard.

    explore   DAPO on all questions                                              a part `explore` of the updates
    repair    -log pi(demonstration), of skills that the map calls reachable or missing; beside them a share `general`
              of soft labels: of skills that it calls known, the model's own answers that are best of `best_of`
    refine    DAPO on the questions that are not always right                    a part `refine`

DAPO: clipped from eps_low to eps_high, pooled over tokens, in groups that are neither all right nor all wrong.

Paper:   "RedOne 2.0: Rethinking Domain-specific LLM Post-Training in Social Networking Services" Zhao et al. 2025.
         https://arxiv.org/abs/2511.07070
Claim:   in as many updates it learns what demonstrations alone teach, and loses less of what was known.
Needs:   questions whose answers can be checked; demonstrations.
Differs: the parts of the updates are those of its data (0.8, 1.8 and 0.4 million); rarity of a task gives it no weight.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.repairing import ITEMS, SHOWN, Workshop, repair

SOFT = "soft"


@repair
def redone(
    w: Workshop,
    *,
    explore: float = 0.27,
    refine: float = 0.13,
    general: float = 0.06,
    best_of: int = 8,
    eps_low: float = 0.2,
    eps_high: float = 0.28,
) -> None:
    if not (0 <= general < 1 and explore >= 0 and refine >= 0 and explore + refine <= 1):
        raise RegraftError("redone: general must be from 0 to under 1, explore and refine together at most 1")
    updates, items = w.left, w.lesson.items
    dapo = w.reinforced(loss=policy_gradient(clip=(eps_low, eps_high), per="token"), refill=3)
    w.fit(dapo, round(explore * updates))
    answers = w.tried(copies=best_of)
    states = {s["skill"]: s["state"] for s in w.map(answers).tables["skills"]}
    known = [skill for skill, state in states.items() if state == "known"]
    failing = [skill for skill in states if skill not in known]
    w.note(f"repair     {', '.join(failing) or 'no skill fails'}")
    shown = w.lesson.demonstrations(w.lesson.of(failing)) if failing else None
    soft = w.right(answers, known) if general else None
    if shown:
        plan = w.imitated()
        if soft:
            plan += Plan((Feed(SOFT, shuffled(SOFT), general),), (Weighted(nll(), on=(SOFT,)),))
        w.fit(plan, w.left - round(refine * updates), data={SHOWN: shown, **({SOFT: soft} if soft else {})})
    right = w.tried(copies=best_of).rows["reward"].view(-1, best_of) >= 1
    hard = ~right.all(1)
    w.note(f"refine     {int(hard.sum())} of {items.count} questions are not always right")
    if bool(hard.any()):
        w.fit(dapo, data={ITEMS: items.where(hard)})

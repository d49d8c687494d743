"""RECAP beside replay that weighs all objectives alike, in proportion to the data, and none."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from regraft.core.parts import Context, Grads
from regraft.core.plan import Feed, Knob, Plan, Weighted
from regraft.engine.bits import one_thread
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.numerics.rollout import uncounted
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.recap import Objective, recap
from regraft.parts.transforms.format_reward import format_reward
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.rewards import Reward, rewards
from regraft.parts.transforms.verified import verified
from regraft.worlds import operations

STEPS, BATCH, LR, COPIES = 150, 128, 1e-3, 8
TOKENS = operations.DIGITS + 2
NEW, SHOWN, ASKED, FORM = "take", "add", "most", "first"
OBJECTIVES = (
    Objective("new", "rl", "reward/new"),
    Objective("shown", "shown", "nll"),
    Objective("asked", "rl", "reward/asked"),
    Objective("form", "rl", "reward/form"),
)
JUDGES = {"new": verified(), "asked": verified(), "form": format_reward(pattern=r"( \d){3}")}
SKILLS = {"new": NEW, "asked": ASKED, "form": FORM}
LEARNED = 500
"""The seed of what is learned, beside the run's own."""


@dataclass(frozen=True, eq=False)
class weighed:
    """Keeps the weight that one objective has at each step."""

    knob: recap
    found: list[float] = field(default_factory=list)

    def begin(self, ctx: Context) -> _Weighed:
        return _Weighed(self, ctx)


class _Weighed:
    def __init__(self, part: weighed, ctx: Context) -> None:
        self.found, self.progress, self.weight = part.found, ctx.progress, ctx.begin(part.knob)

    def update(self, grads: Grads) -> Grads:
        self.found.append(self.weight(self.progress()))
        return grads


def arm(each: Mapping[str, int], shown: float, T: float | None = None) -> Arm:
    """So many questions of each skill, and demonstrations as a share of every batch; `T`: of RECAP, none: all weights
    are 1."""

    def by(name: str) -> Knob:
        return 1.0 if T is None else recap(name, OBJECTIVES, T=T)

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model = operations.base(seed)
        asked = [row for skill, count in each.items() for row in operations.items(skill, count, LEARNED + seed)]
        data = {"items": operations.asked(asked)}
        parts = tuple(Reward(n, judge, by(n), kind=("skill", SKILLS[n])) for n, judge in JUDGES.items())
        then = (rewards(parts), group_advantage(scaled=False))
        rl = Feed("rl", rollouts(shuffled("items"), then, COPIES, TOKENS, at_once=4096))
        plan = Plan((rl,), (Weighted(policy_gradient(per=TOKENS), on=("rl",)),))
        if shown:
            data["shown"] = operations.blocks(operations.items(SHOWN, each[NEW], LEARNED + seed))
            feed = Feed("shown", shuffled("shown"), shown)
            plan += Plan((feed,), (Weighted(nll(), by("shown"), on=("shown",)),))
        form = weighed(recap("form", OBJECTIVES, T=T or math.inf))
        if T is not None:
            plan += Plan(gradients=(form,))
        with one_thread():
            fit(model, plan, data, Training(STEPS, BATCH, LR, seed=seed, log_every=STEPS), meter=meter)
            with uncounted():
                rates = operations.rates(model, seed, skills=(NEW, SHOWN, ASKED, FORM), count=300)
        old = statistics.fmean(rates[skill] for skill in (SHOWN, ASKED, FORM))
        late = form.found[round(0.3 * STEPS) :] or [1.0]
        return {"new": 100 * rates[NEW], "old": 100 * old, "weight of the form": statistics.fmean(late)}

    return run


EVENLY = {NEW: 500, ASKED: 500, FORM: 500}

claim = Claim(
    says="old skills are no more than half a point worse than with equal weights and at least 10 points better than "
    "without replay, the new skill is at least 2 points better than with equal weights, and the form, which is "
    "right from the first, counts less than 1 after 30% of the updates",
    setting=f"tagged arithmetic, a Llama of 0.1M weights; {STEPS} updates of {BATCH} rows reinforce a skill that the "
    "base seldom does; beside it demonstrations of a skill that it knows, answers to be right in a second, and a "
    "reward for the mere form of answers in a third; proportional: a tenth are demonstrations, of 7 questions 5 are "
    "of the new skill",
    arms={
        "RECAP": arm(EVENLY, 0.25, 5.0),
        "equal weights": arm(EVENLY, 0.25),
        "proportional": arm({NEW: 500, ASKED: 100, FORM: 100}, 0.1),
        "without replay": arm({NEW: 500}, 0.0),
        "T infinite": arm(EVENLY, 0.25, math.inf),
    },
    tests=(
        Test("old", "RECAP", "equal weights", by=-0.5, lower_is_better=False),
        Test("old", "RECAP", "without replay", by=10.0, lower_is_better=False),
        Test("new", "RECAP", "equal weights", by=2.0, lower_is_better=False),
        Test("weight of the form", "RECAP", "equal weights"),
    ),
    budget="updates",
    null=("T infinite", "equal weights"),
    calibrated_on=(100,),
)

"""Two proxies that are trusted up to known points: held there, or asked for by fixed weights."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from regraft.core.parts import Transform
from regraft.core.plan import Feed, Plan, Weighted
from regraft.engine.bits import one_thread
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.constrained import constrained
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.rewards import Reward, rewards
from regraft.worlds import proxies

LEGS, STEPS, BATCH, COPIES, LR, KL = 8, 25, 128, 8, 5e-4, 0.02
PLAIN = (("length", proxies.length()), ("courtesy", proxies.courtesy()))
SATURATED = tuple((name, proxies.below(by=by, point=dict(proxies.POINTS)[name])) for name, by in PLAIN)


def arm(parts: Sequence[tuple[str, Transform]], then: Transform, *, best: bool = False) -> Arm:
    """The mean quality of answers in the end, or where it was `best` on the way, and how far the proxies are from
    their points, in percent of these."""

    def run(meter: Meter, seed: int) -> dict[str, float]:
        model, prompts, memory = proxies.base(seed), proxies.prompts(400, seed), dict[str, object]()
        named = rewards(tuple(Reward(name, by) for name, by in parts))
        written = rollouts(shuffled("items"), (named, then), COPIES, proxies.LONGEST, at_once=1024)
        loss = policy_gradient(per=proxies.LONGEST, kl=KL, reference="base")
        plan = Plan((Feed("rl", written),), (Weighted(loss),))
        others, seen = {"base": proxies.base(seed).copy()}, list[dict[str, float]]()
        for leg in range(LEGS):
            training = Training(STEPS, BATCH, LR, seed=LEGS * seed + leg, log_every=STEPS)
            with one_thread():
                memory = fit(
                    model, plan, {"items": prompts}, training, others=others, memory=memory, meter=meter
                ).memory
            seen.append(proxies.means(model, seed))
        found = max(seen, key=lambda s: s["quality"]) if best else seen[-1]
        off = statistics.fmean(abs(found[name] - theta) / theta for name, theta in proxies.POINTS)
        return {"quality": 100 * found["quality"], "off": 100 * off, **{n: found[n] for n, _ in proxies.POINTS}}

    return run


claim = Claim(
    says="fixed weights end at least 10 points of quality below their best; held at their points, both proxies end "
    "within 10% of these on average, and the quality no more than 3 points under that best",
    setting="answers of up to 16 words after a topic, a Llama of 22,000 weights; proxies are how long and how "
    "courteous an answer is, and quality is concave in both; 200 updates of 128 answers, 8 to a prompt, and a "
    "divergence of 0.02",
    arms={
        "held (xi)": arm(PLAIN, constrained(proxies.POINTS, rate=1.0, scaled=False)),
        "held from below (mu)": arm(PLAIN, constrained(proxies.POINTS, equal=False, rate=1.0, scaled=False)),
        "fixed weights": arm(PLAIN, group_advantage()),
        "fixed weights, at their best": arm(PLAIN, group_advantage(), best=True),
        "no reward past its point": arm(SATURATED, group_advantage()),
    },
    tests=(
        Test("quality", "fixed weights, at their best", "fixed weights", by=10.0, lower_is_better=False),
        Test("quality", "held (xi)", "fixed weights, at their best", by=-3.0, lower_is_better=False),
        Test("off", "held (xi)", "fixed weights", by=10.0),
    ),
    budget="updates",
    calibrated_on=(100,),
)

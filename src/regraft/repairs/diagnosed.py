"""What the map of skills asks for, looked at anew several times: shown what is missing, reinforced what is reachable.

    known       rehearsed: the model's own right answers are a share `rehearsed` of every batch
    missing     shown, until a part `ready` of its answers is right      the rest of the batch, divided by how many
    reachable   reinforced                                               skills are shown and how many reinforced

The map is drawn again for each of `rounds` parts of the updates, and shares follow it. Without demonstrations what is
missing stays so, which is said. It ends where no skill fails.

Paper:   "RedOne 2.0: Rethinking Domain-specific LLM Post-Training in Social Networking Services" Zhao et al. 2025.
         https://arxiv.org/abs/2511.07070
Paper:   "Learning What Reinforcement Learning Can't: Interleaved Online Fine-Tuning for Hardest Questions"
         Ma et al. 2025. https://arxiv.org/abs/2506.07527
Claim:   in as many updates it ends better over all skills than imitation of the demonstrations of failing skills, and
         than reinforcement alone.
Differs: neither paper's schedule: RedOne's three stages are three plans, and ReLIFT chooses question by question.
Tags:    reinforcement learning, demonstrations, curriculum, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.repairing import ITEMS, SHOWN, Workshop, repair

OWN = "own"


@repair
def diagnosed(w: Workshop, *, rehearsed: float = 0.25, ready: float = 0.9, rounds: int = 6) -> None:
    if not (0 <= rehearsed < 1 and 0 <= ready <= 1 and rounds >= 1):
        raise RegraftError("diagnosed: rehearsed must be from 0 to under 1, ready from 0 to 1, rounds 1 or more")
    taught: set[str] = set()
    for left in range(rounds, 0, -1):
        items = w.sample()
        answers = w.tried(items)
        skills = w.map(answers, items).tables["skills"]
        of = {state: [s["skill"] for s in skills if s["state"] == state] for state in ("known", "reachable", "missing")}
        w.note("map        " + "; ".join(f"{state}: {', '.join(names)}" for state, names in of.items() if names))
        taught = {s["skill"] for s in skills if s["rate"] < ready and s["skill"] in taught.union(of["missing"])}
        tried = [skill for skill in of["reachable"] if skill not in taught]
        data = {ITEMS: w.lesson.items.where(w.lesson.of(tried)), OWN: w.right(answers, of["known"])}
        if w.lesson.shown is not None:
            data[SHOWN] = w.lesson.demonstrations(w.lesson.of(sorted(taught)))
        shown = len(taught) if data.get(SHOWN) else 0
        if taught and not shown:
            w.note(f"left       {', '.join(sorted(taught))}: nothing shows them, and trying does not find them")
        if not (failing := shown + len(tried)):
            return
        plan = Plan()
        own = rehearsed if data[OWN] else 0.0
        if own:
            plan += Plan((Feed(OWN, shuffled(OWN), own),), (Weighted(nll(), on=(OWN,)),))
        if shown:
            plan += w.imitated(share=(1 - own) * shown / failing)
        if tried:
            plan += w.reinforced()
        w.fit(plan, -(-w.left // left), data=data)

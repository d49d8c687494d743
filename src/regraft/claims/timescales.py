"""Growing what must be remembered: keeping every old target beside the new one, against replacing it.

    single    one read-out, trained on N alone; solved, on N + 1
    multi     a read-out for every N so far, all trained together; solved, one more

Two ways to remember N bits: slow units (time constants tau), or units that pass them on.

Paper:   "Emergent mechanisms for long timescales depend on training curriculum and affect performance in memory tasks"
         Khajehabdollahi et al. 2024. https://arxiv.org/abs/2309.12927
Claim:   keeping the old targets reaches a larger N in as many updates, forgets none, and needs no slow units.
Differs: 64 units for 500, a rate of 0.1 for 0.05, and N as far as 3,000 updates go. N moves on by the accuracy of the
         last 30 updates, not of a test between epochs. The state begins at zero, no unit feeds itself, and what is
         bent is the input to a unit alone. Lesions, timescales of the network's activity, and N beyond training are not
         measured; nor are gated units.
Tags:    forgetting, diagnostic
"""

from __future__ import annotations

from regraft.evidence.claims import Arm, Claim, Test
from regraft.worlds.memory_tasks import Curriculum, Task, learned

STEPS = 3000


def arm(task: Task, curriculum: Curriculum) -> Arm:
    return lambda meter, seed: learned(meter, seed, task, curriculum, steps=STEPS)


claim = Claim(
    says="in as many updates the multi-head curriculum reaches at least the single-head's N on both tasks; on every "
    "earlier N it is at least 20 points more accurate; its mean time constant is lower, on match by at least 0.3",
    setting="parity of the last N bits, and match with the bit N - 1 before; leaky RNN of 64 units with trained time "
    "constants of 1.5 at first; 3,000 updates of 64 streams, N from 2, on at 98%",
    arms={
        "parity, single": arm("parity", "single"),
        "parity, multi": arm("parity", "multi"),
        "match, single": arm("match", "single"),
        "match, multi": arm("match", "multi"),
    },
    tests=tuple(
        test
        for task in ("parity", "match")
        for test in (
            Test("N", f"{task}, multi", f"{task}, single", lower_is_better=False, by=-1e-9),
            Test("earlier", f"{task}, multi", f"{task}, single", lower_is_better=False, by=0.2),
            Test("tau", f"{task}, multi", f"{task}, single", by=0.3 if task == "match" else 0.0),
        )
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100,),
)

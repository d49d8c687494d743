"""ReLIFT: reinforcement, and demonstrations of just those questions that no answer of a group solved.

    step of reinforcement:   A_i = r_i - mean r        no clip, no KL, not divided by the answer's length or by std r
    B <- B + { demonstration of x : no answer to x is right };   |B| >= N:  a step of imitation on N of B

Paper:   "Learning What Reinforcement Learning Can't: Interleaved Online Fine-Tuning for Hardest Questions"
         Ma et al. 2025. https://arxiv.org/abs/2506.07527
Claim:   skills that reinforcement cannot reach are learned, with fewer demonstrations than imitation uses, and what
         was known is kept better.
Needs:   demonstrations.
Differs: both kinds of step share one optimizer; the entropy bonus of 0.001 in steps of imitation is left out.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.unsolved import unsolved
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.recipes.repairing import SHOWN, Workshop, repair


@repair
def relift(w: Workshop, *, N: int | None = None) -> None:
    if w.lesson.shown is None:
        raise RegraftError("relift: there are no demonstrations", do="Give answers to learn from, or another repair")
    loss = policy_gradient(clip=None, per=w.lesson.asking.tokens)
    shown = Plan((Feed(SHOWN, unsolved(SHOWN, N=N), solo=True),), (Weighted(nll(), on=(SHOWN,)),))
    fitted = w.fit(w.reinforced(then=(group_advantage(scaled=False),), loss=loss) + shown)
    used = int(fitted.seen[SHOWN].sum()) if SHOWN in fitted.seen else 0
    w.note(f"shown      {used} of {w.lesson.shown.count} demonstrations, of questions that no answer solved")

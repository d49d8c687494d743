"""Down in steps to a floor: a weight that lets go of one thing by and by, and of the other what is left.

    lam(t) = max(1 - fall ceil(max(t - start, 0) / every), floor)
    f(t)   = height lam(t),    or height (1 - lam(t)) with `rest`

t: optimizer steps. Two of them, of which one is the `rest`, are the weights of ReMix's two divergences.

Paper: "Squeeze the Soaked Sponge: Efficient Off-policy Reinforcement Finetuning for Large Language Model"
       Liang et al. 2025. https://arxiv.org/abs/2507.06892
Tags:  reinforcement learning, task-free
"""

from __future__ import annotations

from regraft.core.define import schedule
from regraft.core.errors import RegraftError
from regraft.core.parts import Progress


@schedule
def stairs(
    t: Progress,
    *,
    height: float = 1.0,
    start: int = 50,
    every: int = 10,
    fall: float = 0.1,
    floor: float = 0.5,
    rest: bool = False,
) -> float:
    if every < 1 or not (0 <= floor <= 1 and fall >= 0 and height >= 0):
        raise RegraftError("stairs: every must be 1 or more, floor from 0 to 1, fall and height 0 or more")
    lam = max(1 - fall * -(-max(t.step - start, 0) // every), floor)
    return height * (1 - lam if rest else lam)

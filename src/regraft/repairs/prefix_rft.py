"""Prefix-RFT: reinforcement in which one answer of each group begins with the first part of a demonstration.

    y_1 .. y_{G-1} ~ pi(. | x);    y_G = y*_{1..L}, then ~ pi(. | x, y*_{1..L});    A_i = r_i - mean r
    L = l |y*|,    l ~ U(low_t, high),    low_t from `early` to `late` along a cosine

A token of a prefix is learned, with the advantage of the whole answer, if it is among the part `top` of them at which
the policy's entropy is highest. early = late: lengths do not move in time. rows = 0: Dr. GRPO.

Paper:   "Blending Supervised and Reinforcement Fine-Tuning with Prefix Sampling" Huang et al. 2025.
         https://arxiv.org/abs/2507.01679
Claim:   at least 3 points better than imitation and than reinforcement, and no worse than imitation on longer
         questions; neither counting all tokens of prefixes nor lengths that do not move in time is better; a fifth of
         the demonstrations does, too.
Needs:   demonstrations, of some of the questions or of all.
Differs: the baseline is the mean over the whole group. In the authors' code it is that over the plain answers, for
         these and for the tokens of prefixes; the rest of an answer that begins with a prefix has none.
Tags:    reinforcement learning, demonstrations, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.schedules.half_cosine import half_cosine
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.prefixes import prefixes
from regraft.recipes.repairing import SHOWN, Workshop, repair


@repair
def prefix_rft(
    w: Workshop, *, rows: int = 1, top: float = 0.2, early: float = 0.95, late: float = 0.05, high: float = 0.95
) -> None:
    if w.lesson.shown is None:
        raise RegraftError(
            "prefix_rft: there are no demonstrations", do="Give answers to learn from, or another repair"
        )
    start = prefixes(low=half_cosine(early=early, late=late), high=high, rows=rows, top=top, source=SHOWN)
    loss = policy_gradient(per=w.lesson.asking.tokens)
    w.fit(w.reinforced(then=(group_advantage(scaled=False),), loss=loss, start=start))

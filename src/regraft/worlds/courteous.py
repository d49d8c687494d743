"""Pairs of answers of which the more courteous is preferred, written by the base of `regraft.worlds.proxies`.

An answer that has more courteous words is mostly longer, and so less likely: the base ranks three of four such pairs
wrongly. Pairs are chosen so that it is a part MISRANKED of them, by as little and as much as it comes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.numerics.answers import pair_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import uncounted
from regraft.numerics.token_loss import log_probs_of
from regraft.numerics.trying import in_blocks, tried
from regraft.worlds import proxies
from regraft.worlds.offline import context

MISRANKED = 0.3
AGREED = 0.9
"""The part of people who prefer the more courteous answer."""
WRITTEN = 5000


def pairs(count: int, seed: int) -> Rows:
    """Blocks of pairs, those first that the base ranks wrongly: `side`, `agreed`, `c`, how far it is from ranking a
    pair rightly, and `row`."""
    base, dice = proxies.base(seed), torch.Generator().manual_seed(seed)
    with one_thread(), uncounted():
        asked = proxies.prompts(WRITTEN, seed)
        answers = tried(base, asked, proxies.courtesy(), proxies.asking(2), context(), dice=dice)
        log_pi = log_probs_of(base, in_blocks(answers), chunk=512).double().sum(1).view(-1, 2)
    R, each = answers.rewards, torch.arange(WRITTEN)
    preferred = R.argmax(1)
    c = log_pi[each, 1 - preferred] - log_pi[each, preferred]
    apart = R[:, 0] != R[:, 1]
    wrongly, rightly = ((apart & of).nonzero()[:, 0] for of in (c > 0, c < 0))
    misranked = round(MISRANKED * count)
    chosen = torch.cat([wrongly[:misranked], rightly[: count - misranked]])

    def said(which: Tensor) -> Padded:
        return Padded.of([answers.written.ids(row) for row in (2 * chosen + which).tolist()])

    prompts = Padded.of([asked["prompt_ids"][i] for i in chosen.tolist()])
    rows = pair_blocks(prompts, said(preferred[chosen]), said(1 - preferred[chosen]))
    agreed = torch.full((len(chosen),), AGREED, dtype=torch.float64)
    return rows.having(row=torch.arange(len(chosen)), agreed=agreed, c=c[chosen])

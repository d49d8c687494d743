"""A reward for the form of an answer: whether a regular expression matches what was written.

    R_r = right     if the whole of it matches `pattern` (`within`: if some part of it does)
          wrong     else

The pattern is Python's; `(?s)` at its beginning lets a dot be a line break, too.

Paper: "DeepSeek-R1: Incentivizing Reasoning Capability in LLMs via Reinforcement Learning" DeepSeek-AI 2025.
       https://arxiv.org/abs/2501.12948
Needs: a column `written` of texts.
Tags:  reinforcement learning, language model
"""

from __future__ import annotations

import re

import torch

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows


@transform
def format_reward(
    rows: Rows, ctx: Context, *, pattern: str, within: bool = False, right: float = 1.0, wrong: float = 0.0
) -> Rows:
    try:
        form = re.compile(pattern)
    except re.error as error:
        raise RegraftError(f"format_reward: {pattern!r} is no regular expression: {error}") from None
    matches = form.search if within else form.fullmatch
    reward = [right if matches(text) else wrong for text in rows["written"]]
    return rows.having(reward=torch.tensor(reward, dtype=torch.float32))

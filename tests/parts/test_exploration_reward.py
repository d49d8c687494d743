"""A bonus for steps beside the outcome: its formula, its cap, and the guard that keeps it below a right answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_rewards import context, falling

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.parts.transforms.exploration_reward import exploration_reward
from regraft.worlds import llama, trails

SAID = ("a 3 B no c 0 C yes so c", "so a", "a 3 B no b 1 A no a 3 B no c 0 C yes so c", "no no a no a yes no", "")
N, DIFFERENT = (2, 0, 4, 5, 0), (2, 0, 3, 3, 0)
V = torch.tensor([1.0, 0.0, 1.0, 0.3, 0.0])
ENDS = ("yes", "no")


def model() -> CausalLM:
    return llama.llama(trails.tokenizer(), width=16, depth=1, heads=2, context=trails.CONTEXT, seed=0)


def at(step: int = 0) -> Context:
    ctx = context(step)
    ctx.models = {"student": model()}
    return ctx


def rows() -> Rows:
    ids = trails.tokenizer()([text or "so" for text in SAID])["input_ids"]
    ids[-1] = []
    items = trails.asked(trails.items(4, len(SAID), 0))
    return items.having(**answer_blocks(Padded.of(items["prompt_ids"]), Padded.of(ids)), reward=V)


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("cap", [1, 3, 8])
@pytest.mark.parametrize("step", [0, 4, 10])
def test_it_is_its_formula(step: int, cap: int, again: bool) -> None:
    each, part = rows(), exploration_reward(ends=ENDS, alpha=0.7, cap=cap, most=0.9, weight=falling(), again=again)
    found = part.begin(at(step))(each, at(step))
    for r, n in enumerate(N if again else DIFFERENT):
        R_ex = 0.9 * min(n, cap) / cap
        assert float(found["reward/exploration"][r]) == pytest.approx(R_ex)
        assert float(found["reward"][r]) == pytest.approx(0.7 * float(V[r]) + 0.3 * (1 - step / 10) * R_ex)
    assert torch.equal(found["reward/outcome"], V)
    assert found["reward"].dtype == torch.float32


def test_null_knobs_leave_the_outcome_as_it_is_bit_for_bit() -> None:
    null: tuple[dict[str, Any], ...] = ({}, {"most": 0.0}, {"weight": 0.0})
    for knobs in null:
        assert torch.equal(exploration_reward(ends=ENDS, alpha=1.0, **knobs)(rows(), at())["reward"], V)


def test_steps_of_the_prompt_and_of_prefixes_that_do_not_count_earn_nothing() -> None:
    each = rows()
    none = exploration_reward(ends=(";",))(each, at())["reward/exploration"]
    assert not none.any(), "the prompt ends with it"
    each = each.having(counts=each["counts"] * 0)
    for again in (True, False):
        part = exploration_reward(ends=ENDS, again=again)
        assert not part(each, at())["reward/exploration"].any()
        assert part(rows().take(slice(0, 0)), at()).count == 0
        assert torch.equal(part(rows().take([2]), at())["reward"], part(rows(), at())["reward"][2:3])


def test_searching_never_outweighs_a_right_answer() -> None:
    each = rows()
    found = exploration_reward(ends=ENDS, alpha=0.51, cap=2)(each, at())["reward"]
    assert float(found[V == 1].min()) > float(found[V < 1].max())
    odd: tuple[dict[str, Any], ...] = ({"alpha": 0.5}, {"alpha": 0.75, "most": 3.0}, {"alpha": 0.75, "weight": 3.0})
    for knobs in odd:
        with pytest.raises(RegraftError, match=r"^exploration_reward: searching could earn .* guard=False$"):
            exploration_reward(**knobs)
        hacked = exploration_reward(ends=ENDS, **knobs, guard=False)
        assert hacked(each, at())["reward"].isfinite().all()
    scheduled = exploration_reward(ends=ENDS, alpha=0.5, weight=falling())
    with pytest.raises(RegraftError, match=r"could earn 0\.5, being right only 0\.5"):
        scheduled(each, at(0))
    assert scheduled(each, at(1)).count == each.count


def test_what_it_cannot_take() -> None:
    part = exploration_reward(ends=ENDS)
    odd: Any
    for odd, says in (
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": 1.1}, "alpha is 1.1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"cap": 0}, "cap is 0"),
        ({"most": -1.0}, "most is -1"),
        ({"weight": -1.0}, "weight is -1"),
    ):
        with pytest.raises(RegraftError, match=f"^exploration_reward: {says}"):
            replace(part, **odd)
    with pytest.raises(RegraftError, match="no token holds 'never'"):
        replace(part, ends=("never",))(rows(), at())
    with pytest.raises(RegraftError, match="row 1 has the reward nan"):
        part(rows().having(reward=torch.tensor([0.0, float("nan"), 0.0, 0.0, 0.0])), at())

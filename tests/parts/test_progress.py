"""Groups that begin with the first blocks of the model's own answer, and a bonus for what a block makes likelier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_demonstrated import context, resumed, vowels

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.plan import Feed
from regraft.core.rows import Rows
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import write
from regraft.numerics.sampling import Sampling
from regraft.numerics.thoughts import answer_begins, forcing, thought_ends
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.own_prefixes import own_prefixes
from regraft.parts.transforms.progress_reward import progress_reward
from regraft.recipes.repairing import Lesson, Workshop
from regraft.repairs.mrt_star import best, mrt_star, ways_on
from regraft.worlds import llama, trails

ENDS = ("yes", "no")
SAID = ("a 3 B no c 0 C yes so c", "so a", "a 3 B no b 1 A no d 2 D no c 0", "no so no no", "b", "no no no")
BEGUN = (4, 0, 8, 0, 1, 1)
"""How many tokens of each were there before."""
PLACES = ((3, 7), (), (3, 7, 11), (0,), (), (0, 1, 2))


def model(context: int = trails.CONTEXT) -> CausalLM:
    found = llama.llama(trails.tokenizer(), width=16, depth=1, heads=2, context=context, seed=0)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in found.module.parameters():
            p += 0.3 * torch.randn(p.shape, generator=dice)
    return found


def rows() -> Rows:
    ids = trails.tokenizer()(list(SAID))["input_ids"]
    items = trails.asked([*trails.items(4, 3, 0), *trails.items(8, 3, 0)])
    blocks = answer_blocks(Padded.of(items["prompt_ids"]), Padded.of(ids))
    counts = blocks["counts"].clone()
    for row, (prompt, begun) in enumerate(zip(items["prompt_ids"], BEGUN, strict=True)):
        counts[row, len(prompt) - 1 : len(prompt) - 1 + begun] = 0.0
    reward = torch.tensor([1.0, 0.0, 0.0, 0.25, 0.0, 1.0])
    return items.having(**{**blocks, "counts": counts}, reward=reward, written=list(SAID))


@transform
def eighths(rows: Rows, ctx: Context) -> Rows:
    """Some reward that depends on every letter."""
    return rows.having(reward=torch.tensor([sum(map(ord, text)) % 8 / 8 for text in rows["written"]]))


def at(student: CausalLM | None = None) -> Context:
    return context(student or model(), {})


def test_blocks_of_thinking_end_before_the_answer_proper() -> None:
    each, student = rows(), model()
    over = thought_ends(student, each, ENDS, forcing(student, "so"))
    begins = answer_begins(each)
    for row, places in enumerate(PLACES):
        assert (over[row].nonzero()[:, 0] - begins[row]).tolist() == list(places)
    size = len(each["prompt_ids"][0])
    short = model(context=size + 8)
    assert (thought_ends(short, each, ENDS, [5])[0].nonzero()[:, 0] - begins[0]).tolist() == [3], "no room after it"
    with pytest.raises(RegraftError, match=r"^force is empty"):
        forcing(student, "")


def progress(part: progress_reward, each: Rows, student: CausalLM) -> list[float]:
    """The formula, written out, of answers that are likeliest."""
    force = forcing(student, part.force)

    def J(row: int, upto: int) -> float:
        ids = trails.tokenizer()(SAID[row])["input_ids"][:upto]
        prompt = [*each["prompt_ids"][row], *ids, *force]
        z = write(student, [prompt], torch.Generator(), tokens=part.after, how=Sampling(0.0)).ids(0)
        said = trails.tokenizer().decode([*ids, *force, *z], skip_special_tokens=True)
        return float(part.judge(Rows({"written": [said]}), at(student))["reward"])

    found = []
    for row, places in enumerate(PLACES):
        new = [place + 1 for place in places if place >= BEGUN[row]][: part.blocks]
        found.append(sum(J(row, b) - J(row, a) for a, b in zip([BEGUN[row], *new], new, strict=False)))
    return found


@pytest.mark.parametrize("blocks", [1, 2, 9])
def test_it_is_its_formula(blocks: int) -> None:
    each, student = rows(), model()
    part = progress_reward(eighths(), ENDS, "so", alpha=0.5, M=2, blocks=blocks, after=3, temperature=0.0, at_once=3)
    found = part(each, at(student))
    wanted = torch.tensor(progress(part, each, student))
    assert torch.equal(found["reward/progress"], wanted)
    assert wanted.any()
    assert torch.equal(found["reward"], each["reward"] + 0.5 * wanted)
    assert torch.equal(found["reward/outcome"], each["reward"])
    assert torch.equal(part(each.take([2]), at(student))["reward"], found["reward"][2:3])
    assert torch.equal(part(each.take([0, 0]), at(student))["reward"], found["reward"][[0, 0]])
    assert part(each.take([]), at(student)).count == 0


def test_what_is_forced_is_drawn_so_many_times() -> None:
    each, student = rows(), model()
    found = progress_reward(eighths(), ENDS, "so", M=200, after=2)(each, at(student))["reward/progress"]
    assert bool((found[[1, 4]] == 0).all()), "no block was written"
    assert bool((found.abs() <= 1).all())
    again = progress_reward(eighths(), ENDS, "so", M=200, after=2)(each, at(student))["reward/progress"]
    assert torch.equal(found, again)


def test_without_alpha_nothing_is_asked_and_rewards_stay_bit_for_bit() -> None:
    each, ctx = rows(), at()
    dice = ctx.rng.get_state()
    found = progress_reward(eighths(), ENDS, "so", alpha=0.0).begin(ctx)(each, ctx)
    assert torch.equal(found["reward"], each["reward"])
    assert torch.equal(ctx.rng.get_state(), dice)


def grouped(count: int = 4, copies: int = 3) -> Rows:
    items = trails.asked(trails.items(8, count, 0)).repeat(copies)
    place = torch.arange(count * copies)
    return items.having(group=7 + place // copies, copy=place % copies)


def test_a_group_begins_with_the_first_blocks_of_one_answer() -> None:
    student = model()
    part = own_prefixes(ENDS, "so", tokens=12)
    drawn = set()
    for seed in range(20):
        ctx = replace(at(student), rng=torch.Generator().manual_seed(seed))
        dice = torch.Generator().manual_seed(seed)
        found = part(grouped(), ctx)
        answers = write(student, grouped()["prompt_ids"][::3], dice, tokens=12)
        if "prefix_ids" not in found:
            continue
        for group in range(4):
            prefix = found["prefix_ids"][3 * group : 3 * group + 3]
            assert prefix[0] == prefix[1] == prefix[2] == answers.ids(group)[: len(prefix[0])]
            said = trails.tokenizer().decode(prefix[0]).split()
            assert not said or said[-1] in ENDS
            assert "so" not in said
            assert found["prefix_counts"][3 * group] == [0.0] * len(prefix[0])
            drawn.add(sum(word in ENDS for word in said))
    assert {0, 1} < drawn


def test_an_answer_without_blocks_begins_nothing() -> None:
    found = own_prefixes(("yes",), "so", tokens=1, temperature=0.0)(grouped(), at())
    assert set(found) == set(grouped())
    assert own_prefixes(ENDS, "so")(grouped().take([]), at()).count == 0


def test_what_they_cannot_take() -> None:
    odd: Any
    for odd, says in (({"alpha": -1.0}, "alpha is -1"), ({"M": 0}, "M is 0"), ({"blocks": 0}, "blocks is 0")):
        with pytest.raises(RegraftError, match=f"^progress_reward: {says}"):
            progress_reward(eighths(), **odd)
    with pytest.raises(RegraftError, match=r"^own_prefixes: tokens is 0"):
        own_prefixes(tokens=0)
    with pytest.raises(RegraftError, match="no token holds"):
        own_prefixes(("never",), "so")(grouped(), at())


@pytest.mark.parametrize("stopped", [0, 3, 6])
def test_they_resume(stopped: int, tmp_path: Path) -> None:
    ends = tuple("abcde")
    then = (vowels(), progress_reward(vowels(), ends, "z", M=2, after=2), group_advantage())
    part = rollouts(shuffled("items"), then, copies=3, tokens=5, start=own_prefixes(ends, "z", tokens=6))
    assert resumed(stopped, tmp_path, (Feed("rl", part),))


def test_the_right_way_on_of_most_progress_is_learned() -> None:
    outcome = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.5, 1.0, 0.0, 1.0])
    progress = torch.tensor([-0.5, 0.25, 1.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0])
    table = Rows({"reward/outcome": outcome, "reward/progress": progress})
    assert best(table, 3).tolist() == [1, 6]
    assert best(table, 1).tolist() == [0, 1, 6, 8]
    assert best(table, 9).tolist() == [1]
    lesson = Lesson(trails.asked(trails.items(8, 40, 0)), eighths(), trails.ASKING)
    w = Workshop(model(), lesson, Training(4, 8, 0.01))
    start, bonus = own_prefixes(ENDS, "so", tokens=40), progress_reward(eighths(), ENDS, "so", M=2, after=2)
    rows = ways_on(w, start, bonus, 4, 3)
    assert rows.count == 160
    begun = 0
    for row in range(160):
        size = len(rows["prompt_ids"][row]) - 1
        counted = rows["counts"][row].nonzero()[:, 0]
        assert torch.equal(counted, torch.arange(int(counted[0]), int(counted[-1]) + 1))
        prefix = rows["targets"][row, size : counted[0]].tolist()
        assert prefix == rows["prefix_ids"][row] == rows["prefix_ids"][row - row % 4]
        begun += len(prefix) > 0
    assert 0 < begun < 160
    with pytest.raises(RegraftError, match=r"^mrt_star: ways is 0"):
        mrt_star(ways=0)(w)

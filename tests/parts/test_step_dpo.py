"""Pairs of steps: which step is the worst, what is preferred to it, and where both begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.step_values import Tails, step_values, tails, valued
from regraft.numerics.steps import Steps, ends_in, steps_of
from regraft.numerics.trying import Asking, in_blocks, tried
from regraft.recipes.answered import still
from regraft.recipes.repairing import InMemory, Workshop
from regraft.repairs.imitation import imitation
from regraft.repairs.step_dpo import pairs_of, step_dpo
from regraft.worlds import chains, detours, llama


def model(seed: int = 0) -> CausalLM:
    return llama.llama(chains.tokenizer(), width=16, depth=1, heads=2, context=chains.CONTEXT, seed=seed)


def ids(text: str) -> list[int]:
    found: list[int] = chains.tokenizer()(text)["input_ids"]
    return found


SAID = (" 0 ; 4 ; 2 ; so 2", " 1 ; so 1", " 3 3 3")


def rows() -> tuple[Rows, Steps]:
    """Wrong answers of 4, 2 and 1 steps."""
    items = chains.asked(chains.items(3, len(SAID), 0))
    blocks = answer_blocks(Padded.of(items["prompt_ids"]), Padded.of([ids(text) for text in SAID]))
    each = items.having(**blocks, written=list(SAID), reward=torch.zeros(len(SAID)))
    return each, steps_of(each, ends_in(model(), (chains.STEP,)))


def ways(rewards: list[list[float]]) -> Tails:
    """Two ways on from each place, which say `place` and then `way`."""
    row, step = torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([0, 1, 2, 3, 0, 1, 0])
    prefixes = [[], ids(" 0 ;"), ids(" 0 ; 4 ;"), ids(" 0 ; 4 ; 2 ;"), [], ids(" 1 ;"), []]
    answers = [[*prefix, *ids(f" {place} {way}")] for place, prefix in enumerate(prefixes) for way in range(2)]
    return Tails(row, step, torch.tensor(rewards).float(), Padded.of(answers))


def sides(pairs: Rows, row: int) -> tuple[str, str]:
    """What is preferred and what is not, as text."""
    side, targets = pairs["side"][row], pairs["targets"][row]
    decode = chains.tokenizer().decode
    return decode(targets[side > 0].tolist()), decode(targets[side < 0].tolist())


def test_the_worst_step_is_the_one_of_least_advantage_and_a_right_way_on_is_preferred() -> None:
    each, steps = rows()
    found = ways([[1, 1], [1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 1]])
    assert torch.equal(valued(each, steps, found)[0], torch.tensor([1.0, 0.5, 0.5, 0.0, 0.0]))
    pairs = pairs_of(each, steps, found)
    assert pairs.count == 2, "the second answer was lost from the first"
    assert sides(pairs, 0) == (" 0 0", " 0 ;"), "of two that cost as much, the first"
    assert sides(pairs, 1) == (" 6 1", " 3 3 3")
    later = pairs_of(each, steps, ways([[1, 1], [1, 1], [0, 1], [1, 1], [1, 1], [1, 1], [0, 0]]))
    assert [sides(later, r) for r in range(later.count)] == [(" 3 0", " so 2"), (" 5 0", " so 1")]
    prompt = [*each["prompt_ids"][0], *ids(" 0 ; 4 ; 2 ;")]
    for start in (later["positions"][0] == 0).nonzero()[:, 0].tolist():
        whole = torch.cat([later["input_ids"][0][start : start + 1], later["targets"][0][start:]])
        assert whole[: len(prompt)].tolist() == prompt, "both go on from the same place"


def test_no_pair_where_no_step_costs_anything() -> None:
    each, steps = rows()
    assert not pairs_of(each, steps, ways([[0, 0]] * 7))
    one = each.take([2])
    alone = steps_of(one, ends_in(model(), (chains.STEP,)))
    nothing = Tails(
        torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), torch.zeros(1, 2), Padded.of([[1], [2]])
    )
    assert not pairs_of(one, alone, nothing)


def test_values_are_means_of_the_same_ways_on() -> None:
    student, asking = model(), Asking(copies=3, tokens=6, at_once=7)
    ctx = still(student, torch.Generator().manual_seed(0))
    each = in_blocks(tried(student, chains.asked(chains.items(2, 4, 0)), chains.judge(), asking, ctx))
    steps = steps_of(each, ends_in(student, (chains.STEP,)))
    how: Any = (chains.judge(), asking, ctx)
    found = tails(student, each, steps, *how, torch.Generator().manual_seed(1))
    Q = step_values(student, each, steps, *how, torch.Generator().manual_seed(1))
    assert torch.equal(valued(each, steps, found).nan_to_num(nan=-1.0), Q.nan_to_num(nan=-1.0))
    assert found.rewards.shape == (int(steps.counts.sum()), 3)


def workshop(judge: Any = None) -> tuple[Workshop, InMemory]:
    lesson = detours.lesson(0, (1, 2), 4, 0.5)
    lesson = replace(lesson, judge=judge or lesson.judge)
    doer = InMemory()
    return Workshop(model(), lesson, Training(10, 8, 0.01, log_every=10), doer), doer


def test_without_wrong_answers_it_is_the_warm_up() -> None:
    def always(rows: Rows, ctx: Any) -> Rows:
        return rows.having(reward=torch.ones(rows.count))

    (w, doer), (plain, _) = workshop(always), workshop()
    step_dpo(ends=(chains.STEP,), warm_up=0.4)(w)
    assert (w.left, doer.notes) == (6, ["pairs      0 of a right way on and the worst step, of 0 wrong answers"])
    plain.left = 4
    imitation()(plain)
    assert all(torch.equal(t, plain.model.state()[name]) for name, t in w.model.state().items())


@pytest.mark.parametrize("knobs", [{"warm_up": 1.0}, {"samples": 0}, {"K": 0}, {"each": 0}])
def test_knobs_that_cannot_be(knobs: Any) -> None:
    with pytest.raises(RegraftError, match="step_dpo"):
        step_dpo(**knobs)(workshop()[0])


def test_solutions_with_and_without_a_detour() -> None:
    questions = chains.items(3, 50, 0)
    said = detours.solutions(questions, 0.5, 0)
    ways = {text.split(chains.STEP)[0] == detours.PLAIN.split(chains.STEP)[0] for text in said}
    assert ways == {True, False}
    for row, text in zip(questions, said, strict=True):
        assert text.split(f"{chains.STEP} ", 1)[1] == chains.solution(chains.values(row["prompt"])).strip()
    assert detours.solutions(questions, 0.5, 0, mistaken=True) != said

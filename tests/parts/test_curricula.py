"""Samplers that hear how it went: which source teaches most, and which questions nobody solved."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Outcome, Progress
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.dump import dump
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.unsolved import unsolved
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.verified import verified
from regraft.worlds import llama, operations


def begun(part: Any, rows: Rows) -> Any:
    nothing: Any = None
    ctx = Context({}, {"new": rows}, {}, torch.Generator().manual_seed(0), nothing, nothing, nothing, nothing)
    return part.begin(ctx)


def heard(**columns: Any) -> Outcome:
    return Outcome("rl", Rows(columns), {}, Progress(0, 1))


SOURCES = Rows({"source": ["a"] * 6 + ["b"] * 3 + ["c"], "row": torch.arange(10)})


def test_sources_are_drawn_by_what_they_teach() -> None:
    sampler = begun(dump(window=4), SOURCES)
    assert torch.allclose(sampler.p(), torch.full((3,), 1 / 3).double()), "alike until something is heard"
    sampler.observe(heard(source=["a", "a", "b", "b", "b"], advantage=torch.tensor([1.0, -0.5, 0.1, 0.0, 0.2])))
    sampler.observe(heard(source=["b", "b"], advantage=torch.tensor([0.4, -0.6])))
    sampler.observe(heard(source=["z"], advantage=torch.tensor([9.0])))
    n = torch.tensor([2.0, 5, 0]).double()
    L = torch.tensor([0.75, (0.4 + 0.6 + 0.0 + 0.2) / 4, 0.0]).double()
    u = L + (2 * math.log(8) / (n + 1)).sqrt()
    assert torch.allclose(sampler.p(), (u / 0.1).softmax(0))
    drawn = sampler.draw(400)["source"]
    assert drawn.count("c") > 200, "what nobody tried is explored"


def test_advantages_of_places_count_by_their_mean() -> None:
    sampler = begun(dump(c=0.0), SOURCES)
    sampler.observe(heard(source=["a", "c"], advantage=torch.tensor([[1.0, -3.0], [0.0, 0.0]])))
    assert torch.allclose(sampler.p(), (torch.tensor([2.0, 0, 0]).double() / 0.1).softmax(0))
    sampler.observe(heard(source=["a"]))
    assert sampler.n.tolist() == [1, 0, 1]


@pytest.mark.parametrize("wrong", [{"window": 0}, {"c": -1.0}, {"tau": 0.0}])
def test_knobs_of_dump(wrong: dict[str, Any]) -> None:
    with pytest.raises(RegraftError):
        dump(**wrong)


def test_what_nobody_solved_waits_for_a_whole_step() -> None:
    demonstrations = Rows({"item": torch.tensor([3, 1, 3, 7]), "row": torch.arange(4)})
    sampler = begun(unsolved(), demonstrations)

    def tried(*of: tuple[int, int, list[float]]) -> None:
        row = torch.tensor([item for item, _, rewards in of for _ in rewards])
        group = torch.tensor([g for _, g, rewards in of for _ in rewards])
        reward = torch.tensor([r for _, _, rewards in of for r in rewards])
        sampler.observe(heard(row=row, group=group, reward=reward))

    tried((3, 0, [0.0, 0.0]), (1, 1, [0.0, 1.0]), (5, 2, [0.0, 0.0]), (7, 3, [-1.0, 0.0]))
    assert sampler.waiting.tolist() == [0, 3], "1 was solved, and nobody shows how 5 is"
    assert sampler.draw(3).count == 0
    tried((3, 0, [0.0]), (7, 1, [0.0]))
    assert sampler.waiting.tolist() == [0, 3], "nothing waits twice"
    assert sampler.draw(2)["row"].tolist() == [0, 3]
    assert sampler.draw(1).count == 0
    tried((3, 0, [0.0]))
    assert sampler.waiting.tolist() == [2], "the other demonstration of it"
    sampler.observe(heard(row=torch.tensor([1])))
    assert sampler.draw(0).count == 0
    few = begun(unsolved(N=2), demonstrations)
    few.observe(heard(row=torch.tensor([1, 3, 7]), group=torch.arange(3), reward=torch.zeros(3)))
    assert [few.draw(5).count for _ in range(2)] == [2, 0]
    with pytest.raises(RegraftError):
        unsolved(N=0)


class _Steps:
    """Which feed each step was of."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def add(self, *, rows: int, tokens: int, updates: int) -> None:
        self.rows.append(rows)


def run(student: Any, steps: int, **kw: Any) -> tuple[dict[str, Tensor], list[int]]:
    rows = [row for skill in ("add", "times") for row in operations.items(skill, 6, 0)]
    data = {"items": operations.asked(rows)}
    shown = operations.blocks(rows)
    data["new"] = shown.having(item=shown["row"])
    part = rollouts(dump("items", "skill"), (verified(), group_advantage()), copies=2, tokens=4)
    plan = Plan(
        (Feed("rl", part), Feed("shown", unsolved(), solo=True)),
        (Weighted(policy_gradient(), on=("rl",)), Weighted(nll(), on=("shown",))),
    )
    counted = _Steps()
    fit(student, plan, data, Training(steps, 6, 0.01, log_every=1), meter=counted, **kw)
    return {n: t.clone() for n, t in student.state().items()}, counted.rows


def test_in_a_plan_they_hear_rollouts_and_resume(tmp_path: Any) -> None:
    class Stopped(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["step"] == 8:
            raise Stopped

    def student() -> Any:
        return llama.llama(operations.tokenizer(), width=16, depth=1, heads=2, context=operations.CONTEXT, seed=0)

    whole, steps = run(student(), 12)
    assert len(steps) == 12
    again = run(student(), 12)[0]
    assert all(torch.equal(whole[n], again[n]) for n in whole)
    with pytest.raises(Stopped):
        run(student(), 12, folder=tmp_path, checkpoint_seconds=0, on_record=stop)
    resumed, _ = run(student(), 12, folder=tmp_path)
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)


def test_a_step_is_of_demonstrations_as_soon_as_they_are_enough() -> None:
    rows = [row for skill in ("add", "times") for row in operations.items(skill, 6, 0)]
    data = {"items": operations.asked(rows)}
    shown = operations.blocks(rows)
    data["new"] = shown.having(item=shown["row"])
    seen = []

    class Watch:
        def add(self, *, rows: int, tokens: int, updates: int) -> None:
            seen.append(tokens // rows)

    part = rollouts(shuffled("items"), (verified(), group_advantage()), copies=2, tokens=2)
    plan = Plan(
        (Feed("rl", part), Feed("shown", unsolved(), solo=True)),
        (Weighted(policy_gradient(), on=("rl",)), Weighted(nll(), on=("shown",))),
    )
    model = llama.llama(operations.tokenizer(), width=16, depth=1, heads=2, context=operations.CONTEXT, seed=0)
    fit(model, plan, data, Training(9, 6, 0.01, log_every=1), meter=Watch())
    longest = shown["input_ids"].shape[1]
    assert [tokens == longest for tokens in seen] == [False, False, True] * 3, "two steps leave six unsolved"

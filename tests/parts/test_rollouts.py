"""Rollouts in a plan: whole groups, dice of their own, groups that teach nothing, and runs that were stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks, join_blocks
from regraft.numerics.padded import Padded
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.worlds import llama, operations

PROMPTS = ["ab", "c", "abcd", "bb", "dca"]


@transform
def vowels(rows: Rows, ctx: Context, *, only: str = "") -> Rows:
    """A reward for every letter that is an a; of the prompts that begin with `only`, where it is given."""
    counts = [
        float(text.count("a")) * p.startswith(only) for text, p in zip(rows["written"], rows["prompt"], strict=True)
    ]
    return rows.having(reward=torch.tensor(counts))


def model() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=12, seed=0)


def items(student: CausalLM, prompts: list[str] = PROMPTS) -> Rows:
    ids = student.tokenizer(prompts)["input_ids"]
    return Rows({"prompt": prompts, "prompt_ids": ids, "row": torch.arange(len(prompts))})


def sampler(only: str = "", **knobs: Any) -> rollouts:
    then = (vowels(only=only), group_advantage())
    return rollouts(shuffled("items"), then, **{"copies": 3, "tokens": 5, **knobs})


def run(part: Any, *, steps: int = 6, prompts: list[str] = PROMPTS, **kw: Any) -> tuple[dict[str, Tensor], Any]:
    student = model()
    plan = Plan((Feed("rl", part),), (Weighted(policy_gradient()),))
    fitted = fit(student, plan, {"items": items(student, prompts)}, Training(steps, 6, 0.05, log_every=1), **kw)
    return {n: t.clone() for n, t in student.state().items()}, fitted


def begun(part: rollouts, prompts: list[str] = PROMPTS) -> Any:
    """The sampler at work outside a run."""
    student = model()
    data = {"items": items(student, prompts)}
    dice = torch.Generator().manual_seed(4)
    nothing: Any = None
    ctx = Context({"student": student}, data, {}, dice, nothing, lambda p: p.begin(ctx), nothing, nothing)
    return part.begin(ctx)


def test_a_step_is_whole_groups_that_the_model_wrote() -> None:
    part = begun(sampler())
    rows = part.draw(8)
    assert rows.count == 6, "two groups of three; the rest is no group"
    assert rows["group"].tolist() == [0, 0, 0, 1, 1, 1]
    assert len({rows["prompt"][i] for i in range(3)}) == 1
    assert rows["prompt"][0] != rows["prompt"][3]
    assert "old_log_probs" not in rows
    for r in range(6):
        ids = [*rows["input_ids"][r].tolist(), int(rows["targets"][r, -1])]
        start, length = len(rows["prompt_ids"][r]), int(rows["length"][r])
        assert ids[:start] == rows["prompt_ids"][r]
        assert rows["counts"][r].nonzero()[:, 0].tolist() == list(range(start - 1, start - 1 + length))
        assert part.model.tokenizer.decode(ids[start : start + length], skip_special_tokens=True) == rows["written"][r]
    said = -torch.log_softmax(part.model.read(rows).logits, -1).gather(2, rows["targets"][..., None])[..., 0]
    assert torch.allclose((said * rows["counts"]).sum(1), rows["surprise"], atol=1e-5)


def test_it_learns_what_is_rewarded_and_runs_alike() -> None:
    weights, fitted = run(sampler(copies=6, tokens=3), steps=60)
    again, _ = run(sampler(copies=6, tokens=3), steps=60)
    assert all(torch.equal(weights[n], again[n]) for n in weights)
    tally = fitted.memory["rollouts"]
    assert int(tally["written"].sum()) == 360
    assert float(tally["surprise"].sum()) > 0
    early, late = (begun(sampler(copies=6, tokens=3)) for _ in range(2))
    late.model.load(weights)
    assert float(late.draw(30)["reward"].mean()) > 2 > 0.2 > float(early.draw(30)["reward"].mean())


@pytest.mark.parametrize("knobs", [{}, {"ahead": 2}, {"epochs": 2}, {"refill": 2}], ids=str)
@pytest.mark.parametrize("at", [1, 3, 4])
def test_resumed_equals_uninterrupted(knobs: dict[str, int], at: int, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["step"] == at + 1:
            raise Stopped

    whole, _ = run(sampler(**knobs))
    with pytest.raises(Stopped):
        run(sampler(**knobs), folder=tmp_path, checkpoint_seconds=0, on_record=stop)
    resumed, fitted = run(sampler(**knobs), folder=tmp_path)
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    assert len(fitted.curve) == 6


def test_rows_that_are_learned_from_again_have_the_log_probabilities_of_then() -> None:
    part = begun(sampler(ahead=2, epochs=2))
    drawn = [part.draw(6) for _ in range(4)]
    assert all(rows.count == 6 and "old_log_probs" in rows for rows in drawn)
    seen = sorted(text for rows in drawn[:2] for text in rows["written"])
    assert seen == sorted(text for rows in drawn[2:] for text in rows["written"])
    said = torch.log_softmax(part.model.read(drawn[0]).logits, -1).gather(2, drawn[0]["targets"][..., None])[..., 0]
    assert torch.allclose(said * drawn[0]["counts"], drawn[0]["old_log_probs"] * drawn[0]["counts"], atol=1e-5)
    assert torch.allclose(-drawn[0]["old_log_probs"].sum(1), drawn[0]["surprise"], atol=1e-5)


def test_groups_that_teach_nothing_are_written_anew() -> None:
    longer = ["xxxxx", "a", "yyyyyy", "ab", "zz"]
    plain, refilled = (begun(sampler("a", copies=12, refill=n), longer).draw(24) for n in (0, 9))
    assert plain.count == refilled.count == 24
    assert {p[0] for p in refilled["prompt"]} == {"a"}
    assert refilled["advantage"].abs().sum() > 0
    nothing = begun(sampler("nobody", copies=2, refill=3), longer).draw(6)
    assert nothing.count == 6
    assert not nothing["advantage"].any(), "a step is not short where nothing teaches"


@transform
def shown_the_way(rows: Rows, ctx: Context) -> Rows:
    """The last answer of a group begins with two tokens, of which one counts."""
    first = rows["copy"] == rows["copy"].max()
    prefix = [[5, 6] if each else [] for each in first.tolist()]
    return rows.having(prefix_ids=prefix, prefix_counts=[[0.0, 1.0][: len(each)] for each in prefix])


def test_an_answer_may_begin_with_what_it_is_shown() -> None:
    part = begun(sampler(start=shown_the_way(), ahead=2))
    rows = part.draw(6)
    said = torch.log_softmax(part.model.read(rows).logits, -1).gather(2, rows["targets"][..., None])[..., 0]
    for r in range(6):
        start, length = len(rows["prompt_ids"][r]), int(rows["length"][r])
        shown = 2 * int(rows["copy"][r] == 2)
        assert rows["targets"][r, start - 1 :].tolist()[:shown] == [5, 6][:shown]
        ids = rows["targets"][r, start - 1 : start - 1 + shown + length].tolist()
        assert part.model.tokenizer.decode(ids, skip_special_tokens=True) == rows["written"][r]
        counted = torch.ones(shown + length)
        counted[:shown] = torch.tensor([0.0, 1.0])[:shown]
        assert torch.equal(rows["counts"][r, start - 1 : start - 1 + shown + length], counted)
        assert rows["counts"][r].sum() == counted.sum()
        old = said[r, start - 1 : start - 1 + shown + length]
        assert torch.allclose(old, rows["old_log_probs"][r, start - 1 : start - 1 + shown + length], atol=1e-5)
    assert "prefix_ids" not in rows
    nothing, plain = begun(sampler(start=_none())), begun(sampler())
    assert torch.equal(nothing.draw(6)["input_ids"], plain.draw(6)["input_ids"]), "a start that adds nothing is none"


@transform
def _none(rows: Rows, ctx: Context) -> Rows:
    return rows


@transform
def _greedy_in_groups(rows: Rows, ctx: Context) -> Rows:
    """Minus what the greedy answer to the same prompt has."""
    baseline = {int(g): r for g, c, r in zip(rows["group"], rows["copy"], rows["reward"], strict=True) if c < 0}
    return rows.having(advantage=rows["reward"] - torch.stack([baseline[int(g)] for g in rows["group"]]))


def test_a_greedy_answer_is_judged_and_not_learned() -> None:
    knobs: dict[str, Any] = {"copies": 2, "tokens": 4}
    part = begun(rollouts(shuffled("items"), (vowels(), _greedy_in_groups()), greedy=True, **knobs))
    rows = part.draw(4)
    assert rows.count == 4
    assert int(rows["copy"].min()) == 0
    assert int(part.tally.written.sum()) == 4
    alone = begun(sampler(**knobs))
    assert torch.equal(alone.draw(4)["input_ids"], rows["input_ids"]), "the greedy answer moves nobody's dice"


class _Doubling:
    """A transform that learns: its factor grows with every call."""

    def __init__(self) -> None:
        self.factor = 1.0

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        self.factor *= 2
        return rows.having(advantage=rows["advantage"] * self.factor)


@dataclass(frozen=True)
class doubling:
    def begin(self, ctx: Context) -> _Doubling:
        return _Doubling()

    def __call__(self, rows: Rows, ctx: Context) -> Rows:
        raise AssertionError("its running object is called")


def test_a_transform_may_learn_while_it_runs() -> None:
    first, second = (
        begun(sampler()),
        begun(rollouts(shuffled("items"), (vowels(), group_advantage(), doubling()), 3, 5)),
    )
    for factor in (2, 4):
        assert torch.allclose(first.draw(6)["advantage"] * factor, second.draw(6)["advantage"])


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(RegraftError, match="greedy and start"):
        sampler(greedy=True, start=_none())
    for wrong in ({"copies": 0}, {"tokens": 0}, {"ahead": 0}, {"epochs": 0}, {"refill": -1}, {"temperature": -1.0}):
        with pytest.raises(RegraftError):
            sampler(**wrong)
    with pytest.raises(RegraftError, match="2 rows of a step are less than a group of 3"):
        begun(sampler()).draw(2)
    with pytest.raises(RegraftError, match=r"prompt 1 has 12 tokens.*context of 12"):
        begun(sampler(), ["a", "b" * 12]).draw(6)
    with pytest.raises(RegraftError, match="a column `advantage`"):
        begun(rollouts(shuffled("items"), (vowels(),), copies=2, tokens=2)).draw(2)


def test_blocks_of_different_length_are_joined() -> None:
    tables = [
        answer_blocks(Padded.of([[1, 2]]), Padded.of([[3] * n]), log_probs=torch.full((1, n), -1.0)) for n in (1, 4)
    ]
    rows = join_blocks([tables[0], Rows({}), tables[1]])
    assert rows["input_ids"].tolist() == [[1, 2, 0, 0, 0], [1, 2, 3, 3, 3]]
    assert rows["positions"].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert rows["counts"].tolist() == [[0, 1, 0, 0, 0], [0, 1, 1, 1, 1]]
    assert rows["old_log_probs"].tolist() == [[0, -1, 0, 0, 0], [0, -1, -1, -1, -1]]
    assert join_blocks([]).count == 0


def test_the_example_in_the_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "skills.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0].replace("steps=100", "steps=2")
    monkeypatch.setattr(operations, "STEPS", 2)
    operations._base.cache_clear()
    names: dict[str, Any] = {}
    exec(code, names)
    operations._base.cache_clear()
    assert float(names["fitted"].memory["rollouts"]["written"].sum()) == 256


def test_two_of_them_in_a_plan_leave_a_tally_each() -> None:
    student = model()
    feeds = tuple(Feed(name, sampler(name=name), 0.5) for name in ("one", "two"))
    fitted = fit(student, Plan(feeds, (Weighted(policy_gradient()),)), {"items": items(student)}, Training(2, 12, 0.05))
    assert [int(fitted.memory[name]["written"].sum()) for name in ("one", "two")] == [12, 12]

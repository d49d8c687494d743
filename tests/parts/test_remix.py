"""Answers of earlier policies among new ones, and what ReMix adds: two divergences whose weights move in stairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.token_loss import log_probs_of
from regraft.parts.losses.divergence import divergence
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.references.following import following
from regraft.parts.samplers.mixed_policies import mixed_policies
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.cooldown import cooldown
from regraft.parts.schedules.stairs import stairs
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.recipes.repairing import Workshop
from regraft.repairs.reinforcement import reinforcement
from regraft.repairs.remix import remix
from regraft.worlds import llama, operations
from regraft.worlds.repairs import lesson

PROMPTS = ["ab", "c", "abcd", "bb", "dca"]


@transform
def vowels(rows: Rows, ctx: Context, *, nothing: bool = False) -> Rows:
    """A reward for every letter that is an a, or none for anybody."""
    return rows.having(reward=torch.tensor([0.0 if nothing else float(t.count("a")) for t in rows["written"]]))


def model() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=12, seed=0)


def items(student: CausalLM) -> Rows:
    ids = student.tokenizer(PROMPTS)["input_ids"]
    return Rows({"prompt": PROMPTS, "prompt_ids": ids, "row": torch.arange(len(PROMPTS))})


def plain(**knobs: Any) -> rollouts:
    then = (vowels(nothing=knobs.pop("nothing", False)), group_advantage())
    return rollouts(shuffled("items"), then, **{"copies": 3, "tokens": 5, **knobs})


def run(part: Any, loss: Any = None, *, steps: int = 6, batch: int = 12, **kw: Any) -> tuple[dict[str, Tensor], Any]:
    student = model()
    plan = Plan((Feed("rl", part),), (Weighted(loss or policy_gradient()),))
    fitted = fit(student, plan, {"items": items(student)}, Training(steps, batch, 0.05, log_every=1), **kw)
    return {n: t.clone() for n, t in student.state().items()}, fitted


def begun(part: Any) -> tuple[Any, CausalLM]:
    """The sampler at work outside a run, and the model that writes."""
    student = model()
    dice = torch.Generator().manual_seed(4)
    nothing: Any = None
    rest = (lambda: Progress(0, 10), lambda p: p.begin(ctx), nothing, nothing)
    ctx = Context({"student": student}, {"items": items(student)}, {}, dice, *rest)
    return part.begin(ctx), student


def moved(student: CausalLM, by: float, seed: int) -> None:
    """Another policy."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in student.module.parameters():
            p += by * torch.randn(p.shape, generator=dice)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_without_earlier_policies_and_again_it_is_what_is_written() -> None:
    assert same(run(mixed_policies(plain(), p=0.0, m=1))[0], run(plain())[0])
    part, _ = begun(mixed_policies(plain(), p=0.0, m=2))
    first, again = part.draw(12), part.draw(12)
    assert "centre" not in first
    assert dict(first).keys() == dict(again).keys()
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert not torch.equal(part.draw(12)["input_ids"], first["input_ids"])


def test_new_rows_have_the_loss_of_ppo_bit_for_bit() -> None:
    part, student = begun(mixed_policies(plain(), p=0.5))
    rows = part.draw(12)
    assert not rows["centre"].any(), "the first batch is new"
    moved(student, 0.1, seed=1)
    without = rows.only(*(set(rows) - {"centre"}))
    loss = policy_gradient(clip=(0.1, 0.1)).begin(None)  # type: ignore[arg-type]
    assert torch.equal(loss.loss(View(student, rows, {})), loss.loss(View(student, without, {})))


def test_rows_of_earlier_policies_say_who_wrote_them_and_where_the_clip_lies() -> None:
    part, student = begun(mixed_policies(plain(), p=0.5, N=2, m=1))
    wrote: dict[str, list[Tensor]] = {}
    shares = []
    for k in range(6):
        rows = part.draw(12)
        now = log_probs_of(student, rows)
        old = rows["centre"].abs().sum(1) > 0
        assert torch.allclose(rows["old_log_probs"] + rows["centre"], now, atol=1e-5)
        assert rows.count == 12
        assert len(rows["group"].unique()) == 4, "numbers of groups do not meet"
        for r in range(12):
            key = f"{rows['row'][r]} {rows['written'][r]} {rows['copy'][r]}"
            if old[r]:
                places = rows["counts"][r].nonzero()[:, 0]
                assert any(torch.equal(rows["old_log_probs"][r, places], was) for was in wrote[key])
            else:
                places = rows["counts"][r].nonzero()[:, 0]
                wrote.setdefault(key, []).append(rows["old_log_probs"][r, places])
        shares.append(int(old.sum()))
        assert len(part.past) == min(k + 1, 2)
        moved(student, 0.05, seed=k)
    assert shares == [0, 6, 6, 6, 6, 6], "after the first batch a half, in whole groups"


def test_parts_are_exact_over_time_and_may_move() -> None:
    def shares(p: Any) -> list[int]:
        part, student = begun(mixed_policies(plain(), p=p, m=1))
        found = []
        for k in range(9):
            found.append(int((part.draw(9)["centre"].abs().sum(1) > 0).sum()) // 3)
            moved(student, 0.05, seed=k)
        return found

    assert shares(0.4) == [0, 1, 1, 1, 1, 2, 1, 1, 1]
    assert shares(0.9) == [0, 2, 3, 3, 2, 3, 3, 2, 3], "what little is new comes again"
    assert shares(cooldown(early=0.0, late=0.0)) == [0] * 9


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_resumed_equals_uninterrupted(at: int, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["step"] == at + 1:
            raise Stopped

    part = mixed_policies(plain(), p=0.5)
    whole, _ = run(part)
    with pytest.raises(Stopped):
        run(part, folder=tmp_path, checkpoint_seconds=0, on_record=stop)
    assert same(whole, run(part, folder=tmp_path)[0])


def test_odd_sizes() -> None:
    part = mixed_policies(plain(nothing=True), p=0.9, N=1)
    still, _ = run(part, batch=3)
    assert all(bool(t.isfinite().all()) for t in still.values()), "one group, and nobody has an advantage"
    with pytest.raises(RegraftError, match="less than a group"):
        run(part, batch=2)
    for knobs in ({"p": 1.0}, {"p": -0.1}, {"N": 0}, {"m": 0}, {"at_once": 0}, {"temperature": 0.0}):
        with pytest.raises(RegraftError, match=next(iter(knobs))):
            mixed_policies(plain(), **knobs)  # type: ignore[arg-type]


def test_the_divergence_is_that_of_the_policy_gradient() -> None:
    student, other = model(), model()
    moved(other, 0.1, seed=2)
    rows = begun(mixed_policies(plain(), p=0.5))[0].draw(12)
    still = rows.having(advantage=torch.zeros(12))
    moved(student, 0.05, seed=3)
    nothing: Any = None
    ctx = Context({"student": student, "before": other}, {}, {}, torch.Generator(), *[nothing] * 4)
    for per in ("row", "token", 5):
        for temperature in (1.0, 0.7):
            alone = divergence(per=per, temperature=temperature).begin(ctx)  # type: ignore[arg-type]
            whole = policy_gradient(per=per, kl=1.0, temperature=temperature).begin(ctx)  # type: ignore[arg-type]
            seen = View(student, still, ctx.models)
            assert torch.allclose(alone.loss(seen), whole.loss(seen), atol=1e-6)
            weights = alone.weight(seen), whole.weight(seen)
            assert (weights[0] is None) == (weights[1] is None) == (per != "token")
    assert bool((divergence().begin(ctx).loss(View(student, rows, ctx.models)) > 0).all())
    for knobs in ({"temperature": 0.0}, {"per": 0}):
        with pytest.raises(RegraftError, match="divergence"):
            divergence(**knobs)  # type: ignore[arg-type]


def test_near_the_last_policy_is_no_divergence_from_what_wrote_the_batch() -> None:
    loss = divergence(following(m=0.0, every=2))
    student = model()
    plan = Plan((Feed("rl", mixed_policies(plain(), p=0.0)),), (Weighted(policy_gradient()), Weighted(loss)))
    curve = fit(student, plan, {"items": items(student)}, Training(6, 12, 0.05, log_every=1)).curve
    found = [record["divergence"] for record in curve if record["step"] > 0]
    assert all(abs(each) < 1e-9 for each in found[::2]), "a batch's first step is at the policy that wrote it"
    assert max(found[1::2]) > 1e-6


def test_stairs() -> None:
    def values(steps: tuple[int, ...], **knobs: Any) -> list[float]:
        return [round(stairs(**knobs)(Progress(t, 200)), 6) for t in steps]  # type: ignore[operator]

    at = (0, 50, 51, 60, 61, 100, 101, 150)
    assert values(at) == [1.0, 1.0, 0.9, 0.9, 0.8, 0.5, 0.5, 0.5]
    assert values(at, rest=True) == [0.0, 0.0, 0.1, 0.1, 0.2, 0.5, 0.5, 0.5]
    assert values((0, 55), height=0.2) == [0.2, 0.18]
    assert values((0, 9), fall=0.0) == [1.0, 1.0]
    for knobs in ({"every": 0}, {"floor": 1.1}, {"fall": -0.1}, {"height": -1.0}):
        with pytest.raises(RegraftError, match="stairs"):
            values((0,), **knobs)


def test_without_a_first_part_it_is_reinforcement() -> None:
    def repaired(how: Any) -> dict[str, Tensor]:
        student = llama.llama(operations.tokenizer(), width=16, depth=1, heads=2, context=operations.CONTEXT, seed=0)
        w = Workshop(student, lesson(0, ("add",), 12), Training(4, 16, 0.01, log_every=1, seed=3))
        how(w)
        return {n: t.clone() for n, t in w.model.state().items()}

    assert same(repaired(remix(T=0.0)), repaired(reinforcement(kl=0.001)))
    assert not same(repaired(remix()), repaired(reinforcement(kl=0.001)))
    with pytest.raises(RegraftError, match="T is 2"):
        repaired(remix(T=2.0))

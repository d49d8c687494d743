"""A reference that follows: where it stands after each step, and runs that were stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.plan import Feed, Plan, Weighted
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import pair_blocks
from regraft.numerics.padded import Padded
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.references.following import following
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds import llama

STEPS = 6


def model() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=16, seed=0)


def pairs() -> Any:
    dice = torch.Generator().manual_seed(0)
    prompts, good, bad = (torch.randint(1, 200, (12, 3), generator=dice).tolist() for _ in range(3))
    rows = pair_blocks(Padded.of(prompts), Padded.of(good), Padded.of(bad))
    return rows.having(row=torch.arange(rows.count))


@dataclass(frozen=True)
class spy:
    """Keeps the weights of the model and of the reference before each step."""

    reference: following
    seen: list[tuple[list[Tensor], list[Tensor]]]

    def __hash__(self) -> int:
        return id(self)

    def begin(self, ctx: Context) -> Any:
        run, student, seen = ctx.begin(self.reference), ctx.models["student"], self.seen

        class Run:
            def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
                seen.append(tuple([p.detach().clone() for p in m.module.parameters()] for m in (student, run.model)))  # type: ignore[arg-type]
                return grads

        return Run()


def run(reference: Any, *more: Any, **kw: Any) -> dict[str, Tensor]:
    student = model()
    loss = Weighted(direct_preference(beta=1.0, reference=reference))
    plan = Plan((Feed("new", shuffled()),), (loss,), gradients=more)
    fit(student, plan, {"new": pairs()}, Training(STEPS, 4, 0.01, log_every=1), **kw)
    return {n: t.clone() for n, t in student.state().items()}


def steps(reference: following) -> list[tuple[list[Tensor], list[Tensor]]]:
    seen: list[tuple[list[Tensor], list[Tensor]]] = []
    run(reference, spy(reference, seen))
    return seen


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_is_the_average_of_the_formula() -> None:
    slow: list[Tensor] = []
    for now, ref in steps(following(m=0.5)):
        slow = [torch.lerp(s, w, 0.5) for s, w in zip(slow, now, strict=True)] if slow else now
        assert all(torch.allclose(a, b) for a, b in zip(slow, ref, strict=True))


@pytest.mark.parametrize(
    ("reference", "stands"),
    [
        (following(m=0.0), [0, 1, 2, 3, 4, 5]),
        (following(m=0.0, every=2), [0, 0, 2, 2, 4, 4]),
        (following(m=0.0, every=3, until=3), [0, 0, 0, 3, 3, 3]),
        (following(m=1.0), [0, 0, 0, 0, 0, 0]),
    ],
    ids=str,
)
def test_it_is_the_model_of_a_step_before(reference: following, stands: list[int]) -> None:
    seen = steps(reference)
    for (_, ref), at in zip(seen, stands, strict=True):
        assert equal(ref, seen[at][0])


def test_one_that_never_moves_is_the_model_before() -> None:
    still, before = run(following(m=1.0)), run("before")
    assert all(torch.equal(still[n], before[n]) for n in before)
    assert not all(torch.equal(run(following(m=0.9))[n], before[n]) for n in before)


@pytest.mark.parametrize("at", [1, 3, 4])
@pytest.mark.parametrize("reference", [following(m=0.7), following(m=0.0, every=2)], ids=str)
def test_resumed_equals_uninterrupted(reference: following, at: int, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["step"] == at + 1:
            raise Stopped

    whole = run(reference)
    with pytest.raises(Stopped):
        run(reference, folder=tmp_path, checkpoint_seconds=0, on_record=stop)
    resumed = run(reference, folder=tmp_path)
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)


@pytest.mark.parametrize("wrong", [{"m": -0.1}, {"m": 1.1}, {"every": 0}, {"until": -1}])
def test_knobs(wrong: dict[str, Any]) -> None:
    with pytest.raises(RegraftError):
        following(**wrong)

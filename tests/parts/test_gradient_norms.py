"""The recorded gradient norms are those of the steps, and recording them changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from part_world import PLAIN, SETTINGS, STEPS, context, resumed, run, same

from regraft.core.errors import RegraftError
from regraft.core.plan import Plan
from regraft.parts.gradients.gradient_norms import gradient_norms


@pytest.mark.parametrize(("norm", "expected"), [("l1", 3 + 4 + 12.0), ("l2", 13.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_norm_is_over_all_tensors_and_the_gradient_passes_untouched(
    norm: str, expected: float, dtype: torch.dtype
) -> None:
    recorder = gradient_norms(norm).begin(context(steps=3))
    grads = {"a": torch.tensor([[3.0, -4.0]], dtype=dtype), "b": torch.tensor([12.0])}
    kept = {n: g.clone() for n, g in grads.items()}
    given = recorder.update(grads)
    assert all(given[n] is grads[n] and torch.equal(given[n], kept[n]) for n in kept)
    recorder.update({})
    left = recorder.leave()["gradient_norms"]
    assert left["norm"] == norm
    assert left["values"].tolist() == pytest.approx([expected, 0.0])


def test_an_l1_norm_of_many_small_entries_is_not_lost_in_half_precision() -> None:
    recorder = gradient_norms("l1").begin(context(steps=1))
    recorder.update({"w": torch.full((100_000,), 0.0078125, dtype=torch.bfloat16)})
    assert recorder.leave()["gradient_norms"]["values"].item() == pytest.approx(781.25, rel=1e-5)


def test_recording_changes_no_bit() -> None:
    plain, recorded = run(PLAIN), run(PLAIN + Plan(gradients=(gradient_norms("l2"),)))
    assert same(plain[0], recorded[0])
    values = recorded[1].memory["gradient_norms"]["values"]
    assert len(values) == STEPS
    assert bool((values > 0).all())


def test_clipping_comes_after() -> None:
    plan = PLAIN + Plan(gradients=(gradient_norms("l2"),))
    first = [
        run(plan, training=replace(SETTINGS, clip=c))[1].memory["gradient_norms"]["values"][0] for c in (None, 1e-3)
    ]
    assert first[0] == first[1] > 1e-3


@pytest.mark.parametrize("at", [1, 2, 8])
def test_resumed_norms_are_those_of_an_uninterrupted_run(tmp_path: Path, at: int) -> None:
    plan = PLAIN + Plan(gradients=(gradient_norms("l1"),))
    whole, pieces = run(plan), resumed(plan, tmp_path, at)
    assert same(whole[0], pieces[0])
    ours, theirs = (f.memory["gradient_norms"]["values"] for _, f in (whole, pieces))
    assert torch.equal(ours, theirs)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(RegraftError, match="norm is 'max'"):
        gradient_norms("max")

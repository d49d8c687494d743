"""Small pieces that many parts stand on: modes, seeds, groups of rows, knobs, images, tensors by name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, View
from regraft.core.rows import Rows
from regraft.engine.edits import still
from regraft.models.classifier import Classifier
from regraft.numerics.choice import at_most, by_group, some
from regraft.numerics.classes import task_of
from regraft.numerics.dice import seeded
from regraft.numerics.evaluating import evaluating
from regraft.numerics.features import head_if_any, headed
from regraft.numerics.images import as_images
from regraft.numerics.knobs import begun, worth
from regraft.numerics.tensors import buffers, largest, on_cpu


def table(count: int) -> Rows:
    return Rows({"x": torch.arange(count).double(), "row": torch.arange(count)})


def dice() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def told(*tasks: int) -> Context:
    return still({}, {"new": Rows({"task": torch.tensor(tasks)}), "untold": table(2)}, {}, name="test", seed=0)


def test_every_layer_is_afterwards_in_the_mode_it_was_in() -> None:
    model = Classifier(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)))
    model.module[1].eval()  # type: ignore[index]
    before = [layer.training for layer in model.module.modules()]
    with suppress(ZeroDivisionError), evaluating(model):
        assert not any(layer.training for layer in model.module.modules())
        raise ZeroDivisionError
    assert [layer.training for layer in model.module.modules()] == before == [True, True, False, True]


def test_a_seed_is_for_a_while() -> None:
    with seeded(4):
        first = torch.rand(3)
    before = torch.get_rng_state()
    with suppress(ZeroDivisionError), seeded(4):
        assert torch.equal(first, torch.rand(3))
        raise ZeroDivisionError
    assert torch.equal(before, torch.get_rng_state())


def test_some_rows_are_distinct_and_at_most_leaves_few_as_they_are() -> None:
    rows, own = table(9), dice()
    assert len(set(some(rows, 4, own)["row"].tolist())) == 4
    assert sorted(some(rows, 20, own)["row"].tolist()) == list(range(9))
    state = own.get_state()
    for count in (None, 9, 20):
        assert at_most(rows, count, own) is rows
    assert torch.equal(state, own.get_state())
    assert at_most(rows, 8, own).count == 8


def test_groups_are_asked_once_each_and_answers_are_in_the_order_of_the_rows() -> None:
    asked = []

    def answer(rows: Rows, group: int) -> Tensor:
        asked.append(group)
        return torch.stack([rows["x"], torch.full((rows.count,), float(group)).double()], 1)

    which = torch.tensor([2, 0, 2, 5, 0])
    said = by_group(table(5), which, answer)
    assert torch.equal(said, torch.stack([torch.arange(5.0), which.float()], 1).double())
    assert asked == [0, 2, 5]


def test_rows_are_of_one_task_or_do_not_say() -> None:
    assert task_of(told(7, 7), "new", "test") == 7
    assert task_of(told(7), "untold", "test") is task_of(told(7), "nowhere", "test") is None
    with pytest.raises(RegraftError, match=r"test: the rows 'new' are of the tasks \[1, 2\], not of one"):
        task_of(told(2, 1, 2), "new", "test")


@pytest.mark.parametrize("gives", [float("nan"), float("inf"), -1.0, ZeroDivisionError])
def test_a_knob_is_worth_a_number_of_0_or_more(gives: Any) -> None:
    def schedule(_: Progress) -> float:
        if gives is ZeroDivisionError:
            raise ZeroDivisionError
        return float(gives)

    with pytest.raises(RegraftError, match="at step 3"):
        worth(begun(schedule, lambda part: part), Progress(3, 9))  # type: ignore[arg-type]
    assert worth(begun(2, lambda part: part), Progress(3, 9)) == 2.0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 9), (2, 1, 3, 3)), ((2, 8), None), ((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 3, 3), None), ((0, 4), (0, 1, 2, 2))],
)
def test_what_counts_as_an_image(shape: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    images = as_images(torch.zeros(shape))
    assert (None if images is None else tuple(images.shape)) == expected


def test_the_largest_entries_and_copies_by_name() -> None:
    values = torch.tensor([[1.0, 5.0], [4.0, -9.0]])
    assert largest(values, 2).tolist() == [[False, True], [True, False]]
    assert not largest(values, 0).any()
    model = Classifier(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)))
    kept = buffers(model)
    assert sorted(kept) == ["0.num_batches_tracked", "0.running_mean", "0.running_var"]
    copies = on_cpu(dict(model.module.named_parameters()))
    assert not any(tensor.requires_grad for tensor in copies.values())
    model.module.get_parameter("1.weight").data.zero_()
    model.module.get_buffer("0.running_var").zero_()
    assert copies["1.weight"].all()
    assert kept["0.running_var"].all()


def test_a_model_without_a_head_says_so() -> None:
    model = Classifier(nn.Flatten())
    rows = Rows({"x": torch.zeros(1, 2), "y": torch.zeros(1, dtype=torch.long)})
    assert head_if_any(model) is None
    with pytest.raises(RegraftError, match="test: the model has no head"):
        headed(model, "test")
    with pytest.raises(RegraftError, match="gives no features"):
        _ = View(model, rows, {}).features

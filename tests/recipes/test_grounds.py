"""Grounds of one's own data, from a recipe file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.recipes.grounds import ground_of, local_files, read_bench

Y = torch.arange(24) % 4
PLACE = torch.arange(24) // 8


def recipe(folder: Path, x: Tensor, judged: str, **other: str) -> Path:
    save_file({"x": x, "y": Y, "place": PLACE, "pair": torch.stack([PLACE, PLACE], 1)}, folder / "rows.safetensors")
    said = "".join(f"\n    {name}: {value}" for name, value in other.items())
    path = folder / "bench.yaml"
    path.write_text(f"grounds:\n  a:\n    judged: {{train: rows.safetensors, {judged}}}{said}\n")
    return path


def test_tasks_by_a_column_are_numbered_where_they_are_told(tmp_path: Path) -> None:
    x = torch.randn(24, 3)
    path = recipe(tmp_path, x, "test: rows.safetensors, by: place, told: true")
    ground = ground_of(path, "a")
    assert ground.says.startswith("rows.safetensors: a task for each place, told")
    tasks = ground.judged(0).tasks
    assert [(task.name, task.number) for task in tasks] == [("0", 0), ("1", 1), ("2", 2)]
    for i, task in enumerate(tasks):
        assert task.test["task"].unique().tolist() == task.train["task"].unique().tolist() == [i]
        assert task.asked is not None
        assert task.asked.tolist() == [0, 1, 2, 3]
        assert torch.equal(task.train["y"], Y[8 * i : 8 * i + 8])
    untold = ground_of(recipe(tmp_path, x, "test: rows.safetensors, by: place"), "a").judged(0)
    assert not untold.told


def test_a_value_that_only_tests_have_is_an_error(tmp_path: Path) -> None:
    path = recipe(tmp_path, torch.randn(24, 3), "test: more.safetensors, by: place")
    save_file({"x": torch.randn(24, 3), "y": Y, "place": PLACE + 1}, tmp_path / "more.safetensors")
    with pytest.raises(RegraftError, match="task '0': a task needs rows to learn and rows to be tested on"):
        ground_of(path, "a").judged(0)


def test_tables_are_standardised_and_images_are_not(tmp_path: Path) -> None:
    wide = 5 + 3 * torch.randn(24, 3, dtype=torch.float64)
    first = ground_of(recipe(tmp_path, wide, "test: rows.safetensors, tasks: 2"), "a").judged(0).tasks[0].train["x"]
    assert first.dtype == torch.float32
    assert torch.allclose(first.mean(0), torch.zeros(3), atol=1e-5)
    folder = tmp_path / "images"
    folder.mkdir()
    images = torch.rand(24, 1, 4, 4)
    tasks = ground_of(recipe(folder, images, "test: rows.safetensors, by: place"), "a").judged(0).tasks
    assert torch.equal(tasks[0].train["x"], images[:8])


@pytest.mark.parametrize(
    ("x", "judged", "network", "says"),
    [
        (torch.ones(24, 3).int(), "tasks: 2", "{perceptron: [4]}", "only networks of transformers read whole numbers"),
        (torch.ones(24, 1, 4, 4).byte(), "tasks: 2", "{timm: resnet10t}", r"x is \[24, 1, 4, 4\] torch.uint8"),
        (torch.ones(24, 3), "tasks: 2", "{timm: resnet10t}", r"x is \[24, 3\]; the network reads images"),
        (torch.ones(24, 3), "tasks: 2", "{transformers: none}", "the network reads images"),
        (torch.ones(24), "tasks: 2", "{perceptron: [4]}", r"x is \[24\]; it must be \[rows, ...\]"),
        (torch.ones(24, 3), "by: pair", "{perceptron: [4]}", r"pair is \[24, 2\]; it must have one value per row"),
    ],
)
def test_inputs_that_the_network_cannot_read(tmp_path: Path, x: Tensor, judged: str, network: str, says: str) -> None:
    path = recipe(tmp_path, x, judged, network=network)
    with pytest.raises(RegraftError, match=says) as caught:
        ground_of(path, "a").judged(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("grounds: {a: {judged: {train: R}}}", "grounds.a.judged: a stream says `tasks` or `by`, one of them"),
        ("grounds: {a: {judged: {train: R, by: x, tolld: 1}}}", "grounds.a.judged.tolld: extra inputs are not permit"),
        ("grounds: {a: {judged: {train: R, by: x, blur: 2}}}", "blur: input should be less than 1, not 2"),
        ("grounds: {a: {network: {timm: R}}}", "grounds.a.judged: field required"),
    ],
)
def test_recipes_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bench.yaml").write_text(text)
    with pytest.raises(RegraftError, match=says) as caught:
        read_bench(tmp_path / "bench.yaml")
    assert "\n" not in str(caught.value)


def test_the_local_files_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path, torch.ones(24, 3), "test: pets, tasks: 2", tuning="{train: hub/name, tasks: 2}")
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "cat" / "1.png").write_bytes(b"1")
    assert local_files(path) == [tmp_path / "rows.safetensors", tmp_path / "pets" / "cat" / "1.png"]

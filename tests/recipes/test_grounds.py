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
        (
            "grounds: {a: {judged: {train: R, by: x, tolld: 1}}}",
            "a.judged: no key 'tolld'; did you mean 'told'. Keys: blur, times, boundaries, train",
        ),
        ("grounds: {a: {judged: {train: R, by: x, blur: 2}}}", "blur: input should be less than 1, not 2"),
        ("grounds: {a: {network: {timm: R}}}", "grounds.a has no key 'judged'"),
        ("grounds: {a: {judgd: R}}", "grounds.a has no key 'judged'"),
        ("ground: {}", "the file has no key 'grounds'"),
        ("grounds: {}", "bench.yaml: `grounds` names no ground. Name one"),
        ("grounds: []", "grounds: must be a mapping, not \\[\\]"),
        ("grounds:", "grounds: must be a mapping, not None"),
        ("grounds: {a: {network: {llama: {}}}}", "grounds.a has no key 'judged'"),
        ("grounds: {a: {judged: {train: R, by: x}, tuning: {train: R, by: x}}}", "a: the stream to tune on is the one"),
        ("method: [er]\ngrounds: {}", "bench.yaml: no key 'method'; did you mean 'methods'"),
        ("grounds: {a: {judged: {train: R, by: x}, tuning: {train: R, of: x}}}", "grounds.a.tuning: no key 'of'"),
        ("methods: er\ngrounds: {}", "methods: must be a list, not 'er'"),
        (
            "grounds: {a: {judged: {train: R, tasks: five}}}",
            "a.judged.tasks: must be a number of tasks or a list of lis",
        ),
        ("grounds: {a: {judged: {train: R, by: x, text: a, columns: [b]}}}", "reads `text` or `columns`, one of them"),
    ],
)
def test_recipes_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bench.yaml").write_text(text)
    with pytest.raises(RegraftError, match=says) as caught:
        read_bench(tmp_path / "bench.yaml")
    assert "\n" not in str(caught.value)


def test_the_local_files_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(
        tmp_path,
        torch.ones(24, 3),
        "test: pets, tasks: 2",
        tuning="{train: hub/name, tasks: 2}",
        network="{transformers: net}",
    )
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text("{}")
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "cat" / "1.png").write_bytes(b"1")
    named = ("rows.safetensors", "pets/cat/1.png", "net/config.json")
    assert local_files(path) == [tmp_path / name for name in named]


def table(path: Path, columns: str, *rows: str) -> None:
    path.write_text("\n".join([columns, *rows]) + "\n")


def tables(folder: Path, judged: str, *, train: str = "f0,f1,label", test: str = "f0,f1,label") -> Path:
    table(folder / "a.csv", train, "1,10,0", "2,10,0", "3,10,1", "4,20,1")
    table(folder / "b.csv", test, "1,10,0", "2,30,1")
    path = folder / "bench.yaml"
    path.write_text(f"grounds:\n  a:\n    judged: {{train: a.csv, {judged}}}\n    network: {{perceptron: [4]}}\n")
    return path


def test_columns_of_train_and_test_meet_by_name(tmp_path: Path) -> None:
    tasks = ground_of(tables(tmp_path, "test: b.csv, tasks: 1", test="f1,f0,label"), "a").judged(0).tasks
    train, test = tasks[0].train["x"], tasks[0].test["x"]
    mean, deviation = torch.tensor([2.5, 12.5]), torch.tensor([1.25, 18.75]).sqrt()
    assert torch.allclose(train, (torch.tensor([[1.0, 10], [2, 10], [3, 10], [4, 20]]) - mean) / deviation)
    assert torch.allclose(test, (torch.tensor([[10.0, 1], [30, 2]]) - mean) / deviation)


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("f0,f2,label", "b.csv: the columns that are read differ: a.csv alone has 'f1'; b.csv alone has 'f2'"),
        ("f0,label,f1", "b.csv, row 1: label '10' is no class"),
    ],
)
def test_columns_that_differ(tmp_path: Path, test: str, says: str) -> None:
    with pytest.raises(RegraftError, match=says):
        ground_of(tables(tmp_path, "test: b.csv, tasks: 1", test=test), "a")


def test_one_column_more_or_other_shapes(tmp_path: Path) -> None:
    path = tables(tmp_path, "test: b.csv, tasks: 1")
    table(tmp_path / "b.csv", "f0,f1,id,label", "1,10,1,0", "2,30,2,1")
    with pytest.raises(RegraftError, match=r"differ: b.csv alone has 'id'. Name them alike"):
        ground_of(path, "a")
    chosen = tables(tmp_path, "test: b.csv, tasks: 1, columns: [f1, f0]")
    ground = ground_of(chosen, "a")
    assert ground.says == "a.csv: 1 task, 10 epochs; 2 columns read (f1, f0)"
    assert ground.judged(0).tasks[0].train["x"][:, 1].argmax() == 3
    path = recipe(tmp_path, torch.ones(24, 3), "test: b.csv, tasks: 1")
    with pytest.raises(RegraftError, match=r"b.csv: its rows are \[2\], those of rows.safetensors \[3\]"):
        ground_of(path, "a")


def test_what_is_read_and_how_the_stream_comes_is_said(tmp_path: Path) -> None:
    path = tables(tmp_path, "tasks: 2, shots: 1, blur: 0.25, times: 2, columns: [f1]")
    said = "2 tasks, 1 row of each class after the first task, 25% of the rows in other tasks, each 2 times"
    assert ground_of(path, "a").says == f"a.csv: {said}, 10 epochs; 1 column read (f1), not f0"


def test_a_column_that_does_not_vary_in_the_first_task_keeps_its_scale(tmp_path: Path) -> None:
    path = tables(tmp_path, "test: b.csv, tasks: [[0], [1]]")
    first, second = ground_of(path, "a").judged(0).tasks
    assert first.train["x"].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert second.train["x"][:, 1].tolist() == [0.0, 10.0]
    assert second.test["x"][:, 1].tolist() == [20.0]


def test_labels_that_are_numbers_need_no_quotes(tmp_path: Path) -> None:
    found = [
        ground_of(tables(tmp_path, f"test: b.csv, tasks: {t}"), "a").judged(0) for t in ("[[1], [0]]", "[['1'], ['0']]")
    ]
    assert [[task.name for task in each.tasks] for each in found] == [["1", "0"]] * 2


def test_streams_that_cannot_be_dealt_name_the_recipe_and_the_ground(tmp_path: Path) -> None:
    path = tables(tmp_path, "test: b.csv, tasks: 3")
    with pytest.raises(RegraftError, match=r"bench.yaml, ground 'a', judged: 2 classes cannot be dealt out to 3 tasks"):
        ground_of(path, "a").judged(0)


def test_a_task_without_tests_is_told_by_its_labels(tmp_path: Path) -> None:
    path = tables(tmp_path, "test: b.csv, tasks: [[cup], [tea]]")
    table(tmp_path / "a.csv", "f0,f1,label", "1,10,cup", "2,10,tea")
    table(tmp_path / "b.csv", "f0,f1,label", "1,10,cup")
    with pytest.raises(RegraftError, match="ground 'a', judged: task 'tea': a task needs rows to learn and rows to be"):
        ground_of(path, "a").judged(0)


def test_a_stream_without_boundaries_is_read_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tables(tmp_path, "tasks: [['0'], ['1']], boundaries: false")
    table(tmp_path / "a.csv", "f0,f1,label", *(f"{i},{i % 3},{i % 2}" for i in range(40)))
    ground = ground_of(path, "a")
    assert (ground.says, ground.epochs) == (
        "a.csv: 2 tasks, in order and without boundaries, 1 epoch; 2 columns read (f0, f1)",
        1.0,
    )
    scenario = ground.judged(0)
    assert not scenario.boundaries
    for task in scenario.tasks:
        assert bool((task.train["x"][:, 0].diff() > 0).all())
    assert ground_of(tables(tmp_path, "test: b.csv, tasks: 1"), "a").epochs == 10.0


@pytest.mark.parametrize(
    ("ground", "says"),
    [
        ("judged: {train: R, by: x, boundaries: false}, epochs: 3", "without boundaries is read once: epochs is 3"),
        (
            "judged: {train: R, by: x, boundaries: false}, tuning: {train: S, by: x}",
            "must be alike for the stream that",
        ),
        (
            "judged: {train: R, by: x, boundaries: maybe}",
            "grounds.a.judged.boundaries: input should be a valid boolean",
        ),
        ("judged: {train: R, by: x, boundary: false}", "no key 'boundary'; did you mean 'boundaries'"),
    ],
)
def test_boundaries_that_cannot_be(tmp_path: Path, ground: str, says: str) -> None:
    (tmp_path / "bench.yaml").write_text(f"grounds: {{a: {{{ground}}}}}")
    with pytest.raises(RegraftError, match=says):
        read_bench(tmp_path / "bench.yaml")


def test_a_stream_that_is_told_has_boundaries(tmp_path: Path) -> None:
    path = tables(tmp_path, "test: b.csv, tasks: 2, told: true, boundaries: false")
    with pytest.raises(RegraftError, match="ground 'a', judged: rows of this stream say of which task they are"):
        ground_of(path, "a").judged(0)

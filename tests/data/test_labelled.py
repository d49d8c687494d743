"""Rows with labels from tables, folders of images and tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from regraft.core.errors import RegraftError
from regraft.data.labelled import labelled


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_table(tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    file.write_text("width,kind,height,store\n1,tea,2.5,north\n3,cup,4,south\n5,tea,6,north\n")
    found = labelled(str(file), label="kind", apart=["store"])
    assert found.classes == ("cup", "tea")
    assert found.rows["y"].tolist() == [1, 0, 1]
    assert found.rows["x"].tolist() == [[1.0, 2.5], [3.0, 4.0], [5.0, 6.0]]
    assert found.others == {"store": ["north", "south", "north"]}
    assert (found.read, found.unread) == (("width", "height"), ())
    numbered = tmp_path / "numbered.csv"
    numbered.write_text("x,label\n1,10\n2,9\n3,10\n")
    assert labelled(str(numbered)).classes == ("9", "10")


def test_the_columns_that_are_read_and_those_that_are_not(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id,b,note,a,label\n7,1,1984,3,x\n8,2,tea,4,y\n9,3,cup,5,y\n")
    found = labelled(str(file))
    assert (found.read, found.unread) == (("id", "b", "a"), ("note",))
    found = labelled(str(file), columns=["a", "b"])
    assert (found.read, found.unread) == (("a", "b"), ("id", "note"))
    assert found.rows["x"].tolist() == [[3.0, 1.0], [4.0, 2.0], [5.0, 3.0]]


def test_a_column_is_numbers_wherever_its_first_fraction_is(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,label\n" + "1,x\n" * 11_000 + "1.5,y\n")
    assert labelled(str(file)).rows["x"][-1].tolist() == [1.5]


@pytest.mark.parametrize(
    ("text", "knobs", "says"),
    [
        ("a,label\n1,x\n", {"label": "lable"}, "no column 'lable'; did you mean 'label'"),
        ("a,label\n,x\n2,y\n", {}, "row 1, column 'a': a value is missing"),
        ("a,label\n1,\n2,y\n", {}, "row 1: a row has no label"),
        ("a,label\n1,y\n1,x\n", {"classes": ["y"]}, "row 2: label 'x' is no class"),
        ("a,label\nred,x\n", {}, "no column of numbers or images"),
        ("a,label\nred,x\n", {"text": "a"}, "needs a network with a tokenizer"),
        ("a,label\n1,x\n", {"apart": ["b"]}, "no column 'b'"),
        ("a,b,label\n1,,x\n1,u,y\n", {"apart": ["b"]}, "row 1: a row has no 'b'"),
        ("", {}, "t.csv: the file has no rows$"),
        ("a,label\n", {}, "t.csv: the file has no rows"),
        ("a,b,label\n1,1,x\n2,n/a?,x\n3,3,y\n", {}, "row 2, column 'b': 'n/a\\?' is no number; 2 others"),
        ("a,b,label\n1,red,x\n", {"columns": ["b"]}, "row 1, column 'b': 'red' is no number"),
        ("a,label\n1,x\n", {"columns": ["b"]}, "no column 'b'"),
        ("a,label\n1,x\n", {"columns": ["label"]}, "column 'label' is not for learning from"),
        ("a,b,label\n1,True,x\n", {"columns": ["a", "b"]}, "column 'b' is not of numbers"),
    ],
)
def test_tables_that_cannot_be_learned(tmp_path: Path, text: str, knobs: dict[str, object], says: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(RegraftError, match=says) as caught:
        labelled(str(file), **knobs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_file_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(RegraftError, match=r"none.csv: cannot be read: No such file or directory$"):
        labelled(str(tmp_path / "none.csv"))


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", ""), ("a.jsonl", "\n"), ("a.json", "[]"), ("a.parquet", "")])
def test_files_without_rows(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RegraftError, match=f"{name}: the file has no rows$"):
        labelled(str(tmp_path / name))


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e300])
def test_tensors_that_are_not_finite(tmp_path: Path, value: float) -> None:
    x = torch.zeros(3, 2, 2, dtype=torch.float64)
    x[1, 0, 1] = value
    save_file({"x": x, "y": torch.arange(3)}, tmp_path / "rows.safetensors")
    with pytest.raises(RegraftError, match=r"rows.safetensors, row 2: x\[0, 1\] is missing or infinite"):
        labelled(str(tmp_path / "rows.safetensors"))


def test_text_is_tokenised(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"said": "a b", "label": "up"}\n{"said": "c", "label": "down"}\n')
    found = labelled(str(file), text="said", tokenise=lambda texts: torch.tensor([[len(t)] for t in texts]))
    assert found.rows["x"].tolist() == [[3], [1]]


def test_images_in_folders(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label, shade, side in (("cat", 10, 4), ("dog", 200, 4), ("dog", 255, 6)):
        (tmp_path / "pets" / label).mkdir(parents=True, exist_ok=True)
        image.new("RGB", (side, side), (shade, 0, 0)).save(tmp_path / "pets" / label / f"{shade}.png")
    with pytest.raises(RegraftError, match="images of different sizes"):
        labelled(str(tmp_path / "pets"))
    found = labelled(str(tmp_path / "pets"), size=(4, 4))
    assert found.rows["x"].shape == (3, 3, 4, 4)
    assert found.classes == ("cat", "dog")
    assert sorted(found.rows["x"][:, 0, 0, 0].mul(255).round().int().tolist()) == [10, 200, 255]


def test_tensors(tmp_path: Path) -> None:
    file = tmp_path / "rows.safetensors"
    save_file({"x": torch.zeros(3, 2), "y": torch.tensor([0, 2, 1])}, file)
    assert labelled(str(file)).classes == ("0", "1", "2")
    save_file({"x": torch.zeros(3, 2), "y": torch.tensor([0.0, 2, 1])}, file)
    with pytest.raises(RegraftError, match="must be \\[3\\] int64"):
        labelled(str(file))
    save_file({"x": torch.zeros(3, 2)}, file)
    with pytest.raises(RegraftError, match="no tensor 'y'"):
        labelled(str(file))
    file.write_bytes(b"nothing")
    with pytest.raises(RegraftError, match="not a safetensors file"):
        labelled(str(file))

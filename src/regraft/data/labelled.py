"""Rows with labels, from what people have: tables, folders of images, Hugging Face datasets, safetensors.

    table.csv, .parquet, .jsonl       numeric columns, or one column of text, and a column of labels
    folder/LABEL/picture.png          images by label
    a saved dataset, or a hub name    as `datasets` reads it
    rows.safetensors                  `x` [rows, ...], floats or the ids of tokens, and `y` [rows] int64

Labels become classes 0, 1, ... in the order of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError, nearest
from regraft.core.names import regular_file
from regraft.core.rows import Rows

TABLES = {".csv": "csv", ".parquet": "parquet", ".jsonl": "json", ".json": "json"}


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows `x` and `y`, the names of the classes, and the columns kept apart.

    Attributes:
        read: the columns of a table that `x` is made of, in their order. unread: those that nothing is made of.
    """

    rows: Rows
    classes: tuple[str, ...]
    others: dict[str, list[Any]]
    read: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def labelled(
    source: str,
    *,
    label: str = "label",
    text: str | None = None,
    tokenise: Callable[[Sequence[str]], Tensor] | None = None,
    size: tuple[int, int] | None = None,
    apart: Sequence[str] = (),
    split: str = "train",
    classes: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Labelled:
    """Reads rows with labels.

    Args:
        source: a file, a folder, or a hub name.
        label: the column of labels.
        text: the column that `tokenise` makes `x` of; none: every column of numbers, or the one of images.
        size: height and width that images are brought to.
        apart: columns that are not for `x`.
        split: which one, where a dataset has several.
        classes: the names of all classes, as another part of the data has them; none: those found.
        columns: those of numbers that `x` is made of, in this order; none: all.

    Raises:
        RegraftError: there is no such file, column or package, there are no rows, a value is missing, is no number
            where others of its column are, or is of no class.
    """
    path = Path(source)
    if path.suffix == ".safetensors":
        return _tensors(path, apart)
    table = table_of(source, split)
    if label not in table.column_names:
        do = "`label: COLUMN` names it; text without labels is for a language model (`network: {llama: {}}`)"
        raise RegraftError(f"no column {label!r}{nearest(label, table.column_names)}", where=source, do=do)
    said = table[label]
    feature = table.features[label]
    names = list(feature.names) if hasattr(feature, "names") else None
    told = [names[v] if names and v is not None and v >= 0 else v for v in said]
    if None in told:
        raise RegraftError("a row has no label", where=f"{source}, row {told.index(None) + 1}")
    told = [str(v) for v in told]
    known = list(classes) if classes is not None else names or sorted(set(told), key=_order)
    numbers = {name: i for i, name in enumerate(known)}
    if unknown := next((v for v in told if v not in numbers), None):
        place = f"{source}, row {told.index(unknown) + 1}"
        raise RegraftError(f"label {unknown!r} is no class of the training rows", where=place)
    y = torch.tensor([numbers[v] for v in told])
    others = {name: column_of(table, name, source) for name in apart}
    free = [name for name in table.column_names if name != label and name not in apart]
    if lacking := next((name for name in columns or () if name not in free), None):
        what = f"no column {lacking!r}{nearest(lacking, free)}"
        if lacking in table.column_names:
            what = f"column {lacking!r} is not for learning from"
        raise RegraftError(what, where=source)
    x, read = _inputs(table, free, columns, source, text, tokenise, size)
    unread = tuple(name for name in free if name not in read)
    return Labelled(Rows({"x": x, "y": y}), tuple(map(str, known)), others, read, unread)


def _order(name: str) -> tuple[int, float, str]:
    """Numbers by size, before other names."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _tensors(path: Path, apart: Sequence[str]) -> Labelled:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    regular_file(path)
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RegraftError(f"not a safetensors file: {error}", where=path) from None
    if lacking := [name for name in ("x", "y") if name not in found]:
        raise RegraftError(f"no tensor {lacking[0]!r}; there are {sorted(found)}", where=path)
    x, y = found["x"], found["y"]
    if x.dim() < 2:
        raise RegraftError(f"x is {list(x.shape)}; it must be [rows, ...]", where=path)
    if y.dim() != 1 or len(y) != len(x) or y.dtype != torch.int64 or (len(y) and int(y.min()) < 0):
        raise RegraftError(f"y is {list(y.shape)} {y.dtype}; it must be [{len(x)}] int64, 0 or more", where=path)
    if lacking := [name for name in apart if name not in found]:
        raise RegraftError(f"no tensor {lacking[0]!r}; there are {sorted(found)}", where=path)
    if uneven := [name for name in apart if found[name].shape != y.shape]:
        shape = list(found[uneven[0]].shape)
        raise RegraftError(f"{uneven[0]} is {shape}; it must have one value per row, [{len(x)}]", where=path)
    others = {name: found[name].tolist() for name in apart}
    x = x.float() if x.is_floating_point() else x
    if not bool(torch.isfinite(x).all()):
        row, *place = (~torch.isfinite(x)).nonzero()[0].tolist()
        raise RegraftError(f"x{place} is missing or infinite", where=f"{path}, row {row + 1}")
    count = int(y.max()) + 1 if len(y) else 0
    return Labelled(Rows({"x": x, "y": y}), tuple(map(str, range(count))), others)


def column_of(table: Any, name: str, source: str) -> list[Any]:
    """The values of a column; RegraftError for one that is not there or has a hole."""
    if name not in table.column_names:
        raise RegraftError(f"no column {name!r}{nearest(name, table.column_names)}", where=source)
    values = list(table[name])
    if None in values:
        raise RegraftError(f"a row has no {name!r}", where=f"{source}, row {values.index(None) + 1}")
    return values


def table_of(source: str, split: str = "train") -> Any:
    """A file, a folder of images, a saved dataset or a hub name as `datasets` reads it.

    Raises RegraftError for what cannot be read, and where there are no rows.
    """
    path = Path(source)
    table = _dataset(path, source, split)
    if not len(table):
        raise RegraftError("the file has no rows" if path.is_file() else "there are no rows", where=source)
    return table


def _dataset(path: Path, source: str, split: str) -> Any:
    try:
        import datasets
        import pandas  # type: ignore[import-untyped]
    except ImportError:
        raise RegraftError(
            "reading it needs the package datasets", where=source, do="pip install regraft[data]"
        ) from None

    datasets.disable_progress_bars()
    try:
        if (path.is_dir() and (path / "state.json").exists()) or (path / "dataset_dict.json").exists():
            found = datasets.load_from_disk(str(path))
            return found[split] if isinstance(found, datasets.DatasetDict) else found
        if path.is_dir():
            return datasets.load_dataset("imagefolder", data_dir=str(path), split="train")
        if path.suffix in TABLES:
            regular_file(path)
            if path.suffix == ".csv":  # at once: `datasets` settles a column's type by the first rows
                return datasets.Dataset.from_pandas(pandas.read_csv(path, low_memory=False), preserve_index=False)
            return datasets.load_dataset(TABLES[path.suffix], data_files=str(path), split="train")
        if path.exists():
            raise RegraftError(f"not one of {', '.join(TABLES)}, .safetensors or a folder", where=source)
        return datasets.load_dataset(source, split=split)
    except RegraftError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if path.is_file() and _is_empty(path, cause):
            raise RegraftError("the file has no rows", where=source) from None
        told = getattr(cause, "strerror", None) or str(cause)
        said = (told.strip() or type(error).__name__).splitlines()[0]
        raise RegraftError(f"cannot be read: {said}", where=source) from None


def _is_empty(path: Path, cause: BaseException) -> bool:
    """Whether a file could not be read because nothing is in it."""
    return not path.stat().st_size or "corresponds to no data" in str(cause)


def _inputs(
    table: Any,
    free: Sequence[str],
    columns: Sequence[str] | None,
    source: str,
    text: str | None,
    tokenise: Callable[[Sequence[str]], Tensor] | None,
    size: tuple[int, int] | None,
) -> tuple[Tensor, tuple[str, ...]]:
    """`x` [rows, ...], and the columns that it is made of."""
    import datasets

    if text is not None:
        if text not in free:
            raise RegraftError(f"no column {text!r}{nearest(text, free)}", where=source)
        if tokenise is None:
            raise RegraftError("text needs a network with a tokenizer", where=source, do="Use `transformers: NAME`")
        return tokenise([str(v) for v in table[text]]), (text,)
    images = [name for name in free if isinstance(table.features[name], datasets.Image)]
    if images and columns is None:
        return _images(table, images[0], source, size), (images[0],)
    for name in free if columns is None else columns:
        _numbers_or_words(table, name, source, wanted=columns is not None)
    numeric = [name for name in columns or free if _is_number(table.features[name])]
    if not numeric:
        raise RegraftError(f"no column of numbers or images among {list(free)}", where=source)
    found = table.select_columns(numeric).with_format("numpy")
    x = torch.stack([torch.as_tensor(found[name][:]).float() for name in numeric], dim=1)
    if not bool(torch.isfinite(x).all()):
        row, column = (~torch.isfinite(x)).nonzero()[0].tolist()
        raise RegraftError(
            "a value is missing or infinite", where=f"{source}, row {row + 1}, column {numeric[column]!r}"
        )
    return x, tuple(numeric)


def _is_number(feature: Any) -> bool:
    return getattr(feature, "dtype", "").startswith(("int", "uint", "float"))


def _numbers_or_words(table: Any, name: str, source: str, *, wanted: bool) -> None:
    """Raises RegraftError for a column that is `wanted`, or is numbers in most of its rows, and has a cell that is
    none."""
    if _is_number(table.features[name]):
        return
    words = getattr(table.features[name], "dtype", "") in ("string", "large_string")
    cells = [(i, cell) for i, cell in enumerate(table[name]) if cell is not None] if words else []
    odd = [(i, cell) for i, cell in cells if not _says_number(cell)]
    if odd and (wanted or 2 * len(odd) < len(cells)):
        others = f"; {len(cells) - len(odd)} others of its column are" if len(cells) > len(odd) else ""
        do = "Mend it" if wanted else "Mend it, or leave the column out: `columns: [...]` names those that are read"
        row, cell = odd[0]
        raise RegraftError(f"{cell!r} is no number{others}", where=f"{source}, row {row + 1}, column {name!r}", do=do)
    if wanted:
        raise RegraftError(f"column {name!r} is not of numbers", where=source)


def _says_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _images(table: Any, column: str, source: str, size: tuple[int, int] | None) -> Tensor:
    """[rows, channels, height, width] in [0, 1]."""
    import numpy as np

    found = []
    for i, image in enumerate(table[column]):
        if image is None:
            raise RegraftError("a row has no image", where=f"{source}, row {i + 1}")
        picture = image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
        if size is not None:
            picture = picture.resize((size[1], size[0]))
        pixels = torch.from_numpy(np.asarray(picture).copy()).float() / 255
        found.append(pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1))
    if len(shapes := {tuple(each.shape) for each in found}) > 1:
        some = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise RegraftError(f"images of different sizes: {some}", where=source, do="Give `size: [height, width]`")
    return torch.stack(found)

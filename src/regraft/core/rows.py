"""Rows: an immutable table. Columns are the only contract between parts that meet in the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from regraft.core.errors import RegraftError


@runtime_checkable
class Lazy(Protocol):
    """A column that is read when rows are taken: tokens on disk, images in a folder.

    `gather` returns the chosen entries in the order asked for, as a tensor [len(index), ...] or a list.
    """

    def __len__(self) -> int: ...

    def gather(self, index: Tensor) -> Tensor | list[Any]: ...


class Table(Protocol):
    """Lazy columns that are cheapest read together; `read` gives all of them for the rows at `index`, in that order."""

    def __len__(self) -> int: ...

    def read(self, index: Tensor) -> Mapping[str, Tensor]: ...


class Shared:
    """One column of a table. `Rows.take` reads the table once for all of its columns."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name

    def __len__(self) -> int:
        return len(self.table)

    def gather(self, index: Tensor) -> Tensor:
        return self.table.read(index)[self.name]


Column: TypeAlias = Tensor | list[Any] | Lazy


class Rows(Mapping[str, Column]):
    """Columns of equal length: tensors [rows, ...], lists, or lazy columns.

    Every operation returns new rows and copies no more than it must. A missing column is an error that lists those
    present. Two columns mean the same to every loss: `weight` [rows], how much a row counts in the pooled mean, and
    `scale` [rows], a factor on its loss alone, which the mean is not divided by (importance sampling).
    """

    __slots__ = ("_columns", "count")

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        lengths = {name: len(column) for name, column in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise RegraftError(f"columns differ in length: {lengths}")
        self.count: int = next(iter(lengths.values()), 0)

    @classmethod
    def _trusted(cls, columns: dict[str, Column], count: int) -> Rows:
        rows = object.__new__(cls)
        rows._columns, rows.count = columns, count
        return rows

    def __getitem__(self, name: str) -> Any:
        try:
            return self._columns[name]
        except KeyError:
            raise RegraftError(f"no column {name!r}; the rows have {sorted(self._columns)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """The number of columns, as in any mapping; the number of rows is `count`."""
        return len(self._columns)

    def __bool__(self) -> bool:
        return self.count > 0

    def __repr__(self) -> str:
        return f"Rows({self.count} × {list(self._columns)})"

    def take(self, index: Tensor | Sequence[int] | slice) -> Rows:
        """The rows at `index`, in that order; a slice of tensors is a view."""
        if isinstance(index, slice):
            start, stop, step = index.indices(self.count)
            if not all(isinstance(c, Tensor | list) for c in self._columns.values()):
                return self.take(torch.arange(start, stop, step))
            return Rows._trusted({n: c[index] for n, c in self._columns.items()}, len(range(start, stop, step)))  # type: ignore[index]
        at = index if isinstance(index, Tensor) else torch.as_tensor(index, dtype=torch.long)
        read: dict[Table, Mapping[str, Tensor]] = {}
        taken: dict[str, Column] = {}
        for name, column in self._columns.items():
            if isinstance(column, Tensor):
                taken[name] = column.index_select(0, at)
            elif isinstance(column, Shared):
                if column.table not in read:
                    read[column.table] = column.table.read(at)
                taken[name] = read[column.table][column.name]
            else:
                taken[name] = _gather(column, at)
        return Rows._trusted(taken, at.shape[0])

    def where(self, keep: Tensor) -> Rows:
        """The rows for which `keep` [rows, bool] is true."""
        return self.take(keep.nonzero()[:, 0])

    def having(self, **columns: Column) -> Rows:
        """These rows with columns added or replaced."""
        return Rows({**self._columns, **columns})

    def only(self, *names: str) -> Rows:
        """These rows with the named columns alone."""
        return Rows._trusted({n: self[n] for n in names}, self.count)

    def repeat(self, times: int) -> Rows:
        """Each row `times` times, copies side by side."""
        return self.take(torch.arange(self.count).repeat_interleave(times))

    def chunks(self, size: int) -> Iterator[Rows]:
        """Consecutive pieces of at most `size` rows."""
        if size >= self.count:
            yield self
            return
        for start in range(0, self.count, size):
            yield self.take(slice(start, start + size))

    def to(self, device: torch.device) -> Rows:
        """These rows with every tensor on `device`."""
        moved = {n: c.to(device, non_blocking=True) if isinstance(c, Tensor) else c for n, c in self._columns.items()}
        return Rows._trusted(moved, self.count)

    @property
    def schema(self) -> tuple[tuple[str, Any], ...]:
        """What two tables must share to be read in one forward pass: names, dtypes and trailing shapes."""
        return tuple(
            (n, (c.dtype, c.shape[1:]) if isinstance(c, Tensor) else type(c)) for n, c in sorted(self._columns.items())
        )

    @staticmethod
    def join(tables: Iterable[Rows]) -> Rows:
        """The rows of several tables of one schema, one table after the other."""
        parts = [t for t in tables if t.count]
        if len(parts) < 2:
            return parts[0] if parts else Rows({})
        first = parts[0]._columns
        if odd := next((t for t in parts if t._columns.keys() != first.keys()), None):
            raise RegraftError(f"cannot join rows with columns {sorted(odd)} to rows with columns {sorted(first)}")
        return Rows._trusted({n: _join([t._columns[n] for t in parts]) for n in first}, sum(t.count for t in parts))

    @property
    def ids(self) -> list[str]:
        """A stable id for every row:

        column `id` if there is one, else 32 hex digits of a hash over the row's content.
        """
        if "id" in self._columns:
            return list(self["id"])
        return [_digest([(n, self._columns[n][i]) for n in sorted(self._columns)]) for i in range(self.count)]  # type: ignore[index]


def _gather(column: Column, index: Tensor) -> Column:
    if isinstance(column, Tensor):
        return column.index_select(0, index)
    if isinstance(column, list):
        return [column[i] for i in index.tolist()]
    return column.gather(index)


def _join(columns: list[Column]) -> Column:
    if all(isinstance(c, Tensor) for c in columns):
        return torch.cat(columns)  # type: ignore[arg-type]
    if all(isinstance(c, list) for c in columns):
        return [x for c in columns for x in c]  # type: ignore[union-attr]
    return _Joined(columns)


class _Joined:
    """Lazy columns of one kind, end to end."""

    def __init__(self, columns: list[Column]) -> None:
        self.columns = columns
        self.ends = torch.tensor([len(c) for c in columns]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def gather(self, index: Tensor) -> Tensor | list[Any]:
        owner = torch.searchsorted(self.ends, index, right=True)
        places, pieces = [], []
        for o in sorted(set(owner.tolist())):
            mine = (owner == o).nonzero()[:, 0]
            places.append(mine)
            pieces.append(_gather(self.columns[o], index[mine] - (self.ends[o - 1] if o else 0)))
        order = torch.cat(places).argsort()
        return _gather(_join(pieces), order)  # type: ignore[return-value]


def _digest(fields: list[tuple[str, Any]]) -> str:
    digest = hashlib.sha256()
    for name, value in fields:
        raw = value.detach().cpu().contiguous().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode()
        digest.update(f"{name}\0{len(raw)}\0".encode() + raw)
    return digest.hexdigest()[:32]

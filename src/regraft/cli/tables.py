"""Tables that people read and pipe."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

_NUMBERS = {"line", "tensors", "MiB", "tokens", "seconds", "mean", "items"}


def plain_table(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        right = name in _NUMBERS or name.startswith("loss")
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    return table

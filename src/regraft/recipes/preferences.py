"""The pairs of answers that a user brings: of two answers to one prompt, which is preferred.

A row has `prompt`, `chosen` and `rejected`: texts; or `chosen` and `rejected` are lists of turns, and `prompt`, if
there is one, the turns before both. Answers are documents, read and tokenised as demonstrations are.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.corpus import Corpus
from regraft.data.document import BadRow, document_of, ill_typed
from regraft.evidence.items import rows
from regraft.numerics.answers import beside
from regraft.recipes import texts

NEEDED = "rows need `prompt`, `chosen` and `rejected`"


@dataclass(frozen=True)
class Preferences:
    """Pairs as places of documents in a corpus, the answer preferred and the other, int64 [pairs, 2]; and how many rows
    were passed over, by reason."""

    corpus: Corpus
    sides: Tensor
    skipped: Mapping[str, int]

    @staticmethod
    def read(path: Path, tokenizer: Any, *, skip_bad: bool = False) -> Preferences:
        """Raises RegraftError with `file:line` for the first bad row, unless those are passed over."""
        documents: dict[str, tuple[int, dict[str, Any]]] = {}
        pairs: list[tuple[str, str]] = []
        skipped: Counter[str] = Counter()
        kind = ""
        for line, row in rows(path):
            try:
                own, sides = _sides(row)
                if own != (kind := kind or own):
                    raise BadRow("mixed schemas", f": has {own}, but the rows before it have {kind}")
                chosen, rejected = (document_of(side, own, "", 0, line).id.hex() for side in sides)
                if chosen == rejected:
                    raise BadRow("`chosen` and `rejected` are the same")
            except BadRow as problem:
                if not skip_bad:
                    raise RegraftError(str(problem), where=f"{path}:{line}") from None
                skipped[problem.reason] += 1
                continue
            for name, side in zip((chosen, rejected), sides, strict=True):
                documents.setdefault(name, (line, side))
            pairs.append((chosen, rejected))
        if not pairs:
            raise RegraftError("no pair of answers", where=path, do=f"Its {NEEDED}")
        corpus = _corpus(path, documents.values(), tokenizer, skip_bad)
        places = {name: at for at, name in enumerate(corpus.row_ids)}
        found = [[places[name] for name in pair] for pair in pairs if places.keys() >= set(pair)]
        if len(found) < len(pairs):
            skipped["an answer that cannot be tokenised"] = len(pairs) - len(found)
        return Preferences(corpus, torch.tensor(found, dtype=torch.long).view(-1, 2), dict(skipped))


def _sides(row: object) -> tuple[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The kind of document that both answers are, and the two."""
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, Mapping):
        raise BadRow("not an object", f": {NEEDED}")
    turns = isinstance(row.get("chosen"), list)
    for name in ("chosen", "rejected") if turns else ("prompt", "chosen", "rejected"):
        if row.get(name) is None:
            raise BadRow(f"field `{name}` is missing", f": {NEEDED}")
        if isinstance(row[name], list) != turns:
            raise ill_typed(name, row[name], "a list of turns, as `chosen` is" if turns else "a string, as `chosen` is")
    if not turns:
        chosen, rejected = ({"prompt": row["prompt"], "completion": row[name]} for name in ("chosen", "rejected"))
        return "completion", (chosen, rejected)
    before = row.get("prompt") or []
    if not isinstance(before, list):
        raise ill_typed("prompt", before, "a list of turns, as `chosen` is")
    tools = {"tools": row["tools"]} if row.get("tools") else {}
    chosen, rejected = ({"messages": [*before, *row[name]], **tools} for name in ("chosen", "rejected"))
    return "messages", (chosen, rejected)


def _corpus(path: Path, documents: Collection[tuple[int, dict[str, Any]]], tokenizer: Any, skip_bad: bool) -> Corpus:
    """The answers, tokenised; `documents`: each with the line of `path` that it came from."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, f"{path.stem}.jsonl")
        made.write_text("".join(json.dumps(row) + "\n" for _, row in documents), encoding="utf-8")
        try:
            return texts.read([str(made)], tokenizer, called=[str(path)], skip_bad=skip_bad)
        except RegraftError as error:
            file, _, at = (error.where or "").rpartition(":")
            if file != str(made):
                raise
            lines = [line for line, _ in documents]
            raise RegraftError(error.what, where=f"{path}:{lines[int(at) - 1]}", do=error.do) from None


def paired(documents: Rows, sides: Tensor) -> Rows:
    """Both answers of each pair in one block, as `direct_preference` reads them. Turns before the one in which the two
    part are not counted."""
    chosen, rejected = (documents.take(side) for side in sides.unbind(1))
    return beside(_parted(chosen, rejected), _parted(rejected, chosen)).having(row=torch.arange(len(sides)))


def _parted(own: Rows, other: Rows) -> Rows:
    """Blocks of which the turn where they part from the others is counted, and those after it."""
    learned = own["counts"] > 0
    alike = (own["targets"] != other["targets"]).cumsum(1) == 0
    begins = learned & ~torch.cat([learned.new_zeros(len(learned), 1), learned[:, :-1]], 1)
    place = torch.arange(learned.shape[1])
    turn = torch.where(begins & (place <= alike.sum(1, keepdim=True)), place, 0).amax(1, keepdim=True)
    return own.only("input_ids", "targets", "positions").having(counts=own["counts"] * (place >= turn))

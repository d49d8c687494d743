"""Every pair of methods for streams: whether the two compose, or why not.

    python -m regraft.worlds.pairs [--jobs N]        measure all pairs, write evidence/records/_pairs.json

Two methods compose where their strategies add up, and the sum goes through a small stream. Then the null knobs of
either give the other alone, bit for bit: `meet` holds that too.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from functools import cache

from regraft.core.errors import Diverged, RegraftError
from regraft.evidence.cards import OURS
from regraft.evidence.running import in_processes
from regraft.recipes.strategy import Strategy, method_named
from regraft.worlds.small import METHODS, WORLDS, Went, lived, same, small

RECORD = OURS.root / "evidence" / "records" / "_pairs.json"
LEFT_OUT = {"naive"}
PAIRS = list(itertools.combinations([name for name in METHODS if name not in LEFT_OUT], 2))


@cache
def alone(name: str, world: str) -> Went | None:
    """What a method comes to in a world; None where it cannot act."""
    try:
        return lived(small(method_named(name)), WORLDS[world])
    except RegraftError:
        return None


def meet(pair: tuple[str, str]) -> str:
    """Why the two do not compose; nothing, where they do.

    Raises RegraftError where null knobs of one do not give the other alone.
    """
    a, b = map(method_named, pair)
    try:
        both = small(a) + small(b)
    except RegraftError as error:
        return str(error)
    world = next((world for world in WORLDS if all(alone(name, world) is not None for name in pair)), None)
    if world is None:
        return "no stream suits both"
    try:
        lived(both, WORLDS[world])
    except Diverged as error:
        return error.what
    except RegraftError as error:
        return str(error)
    for null, other in ((a, b), (b, a)):
        if null.null:
            _holds(small(null, **null.null) + small(other), other.name, null.name, world)
    return ""


def _holds(strategy: Strategy, name: str, null: str, world: str) -> None:
    found, expected = lived(strategy, WORLDS[world]), alone(name, world)
    assert expected is not None
    if not same(found.weights, expected.weights) or (found.lived.scores != expected.lived.scores).any():
        raise RegraftError(f"{null} at its null knobs is not absent beside {name}", where=f"the world {world!r}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures every pair and writes the record."""
    parser = argparse.ArgumentParser(prog="python -m regraft.worlds.pairs", description="Measure every pair.")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    found = dict(in_processes(meet, PAIRS, parser.parse_args(arguments).jobs, "pairs of methods"))
    said = {"methods": [n for n in METHODS if n not in LEFT_OUT], "pairs": {"+".join(p): found[p] for p in PAIRS}}
    RECORD.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Every pair of methods for streams: whether the two compose, or why not.

    python -m regraft.worlds.pairs [--jobs N]        measure all pairs, write evidence/records/_pairs.json

Two methods compose where their strategies add up, and the sum goes through a small stream. Then the null knobs of
either, where it has any, give the other alone, bit for bit: `meet` holds that too, and says of which it did.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from regraft.core.errors import Diverged, RegraftError
from regraft.core.parts import Answers
from regraft.engine.edits import still
from regraft.evidence.cards import OURS
from regraft.evidence.running import in_processes
from regraft.recipes.strategy import Stage, Strategy, method_named
from regraft.worlds.small import METHODS, WORLDS, Went, World, home, lived, same, small

RECORD = OURS.root / "evidence" / "records" / "_pairs.json"
LEFT_OUT = {"naive"}
PAIRED = [name for name in METHODS if name not in LEFT_OUT]
PAIRS = list(itertools.combinations(PAIRED, 2))


class Met(NamedTuple):
    """Why two methods do not compose, nothing where they do; and whose null knobs gave the other alone."""

    why: str
    absent: tuple[str, ...] = ()


@cache
def alone(name: str, world: str) -> Went | RegraftError:
    """What a method comes to in a world, or why it cannot act there.

    Raises Diverged: it acts, and the world is none to judge it in.
    """
    try:
        return lived(small(method_named(name)), WORLDS[world])
    except Diverged:
        raise
    except RegraftError as error:
        return error


def meet(pair: tuple[str, str]) -> Met:
    """Whether two methods compose.

    Raises RegraftError where null knobs of one do not give the other alone, and Diverged where the two diverge.
    """
    a, b = map(method_named, pair)
    try:
        both = small(a) + small(b)
    except RegraftError as error:
        return Met(str(error))
    world = next((world for world in WORLDS if all(isinstance(alone(name, world), Went) for name in pair)), None)
    if world is None:
        return Met(f"no stream suits both: {'; '.join(_refusals(*pair))}")
    try:
        lived(both, WORLDS[world])
    except Diverged:
        raise
    except RegraftError as error:
        return Met(str(error))
    switched = [(null, other) for null, other in ((a, b), (b, a)) if null.null]
    for null, other in switched:
        _holds(small(null, **null.null) + small(other), other.name, null.name, world)
    return Met("", tuple(null.name for null, _ in switched))


def _refusals(a: str, b: str) -> list[str]:
    """What each says in the last world that the other can act in."""
    said = []
    for name, other in ((a, b), (b, a)):
        refusal = alone(name, [world for world in WORLDS if isinstance(alone(other, world), Went)][-1])
        assert isinstance(refusal, RegraftError)
        said.append(refusal.what)
    return said


def _holds(strategy: Strategy, name: str, null: str, world: str) -> None:
    found, expected = lived(strategy, WORLDS[world]), alone(name, world)
    assert isinstance(expected, Went)
    if not same(found.weights, expected.weights) or (found.lived.scores != expected.lived.scores).any():
        raise RegraftError(f"{null} at its null knobs is not absent beside {name}", where=f"the world {world!r}")


def lasting(name: str) -> str:
    """Why a method can have no null knobs; nothing, where it has some."""
    if method_named(name).null:
        return ""
    strategy = small(method_named(name))
    stages = [step for step in (*strategy.before, *strategy.after) if isinstance(step, Stage)]
    kinds = {
        "it answers from what it keeps beside the network, from the first task on": _answers(strategy, home(name)),
        "it has no plain training: it trains in stages of its own, or writes the head": stages or not strategy.epochs,
        "it reads the rows of all tasks": strategy.reads == "all",
        "it learns labels by a loss of its own, and no knob turns that into the cross-entropy": strategy.labels,
    }
    return next(why for why, holds in kinds.items() if holds)


def _answers(strategy: Strategy, world: World) -> bool:
    """Whether the strategy says how its versions answer."""
    ctx = still({"student": world.network()}, {"new": world.scenario.tasks[0].train}, {}, name="pairs", seed=0)
    return any(isinstance(part.begin(ctx), Answers) for part in strategy.plan.trainables)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures every pair and writes the record."""
    parser = argparse.ArgumentParser(prog="python -m regraft.worlds.pairs", description="Measure every pair.")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    found = dict(in_processes(meet, PAIRS, parser.parse_args(arguments).jobs, "pairs of methods"))
    said = {
        "methods": PAIRED,
        "lasting": {name: why for name in PAIRED if (why := lasting(name))},
        "pairs": {"+".join(pair): found[pair].why for pair in PAIRS},
        "absent": {"+".join(pair): found[pair].absent for pair in PAIRS if not found[pair].why},
    }
    RECORD.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

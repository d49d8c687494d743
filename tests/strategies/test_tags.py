"""What the tags of a strategy's card promise is what it does; `language model` is held in `test_every_strategy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.data.scenario import unbroken
from regraft.evidence.cards import card
from regraft.evidence.compared import alike, measured, stood
from regraft.recipes.strategy import Strategy, live, method_named
from regraft.worlds.small import METHODS, WORLDS, World, home, lived, small

ONE_HEAD = {"classes", "online", "pretrained", "few_shot", "unbroken"}
"""The grounds of the shipped comparison where tasks bring classes of their own and nobody says of which an input is."""
TRIED = {row.method for each in measured() for on, rows in each.rows.items() if on in ONE_HEAD for row in rows}
UNTOLD = [world for world in WORLDS.values() if not world.scenario.told]


def tags(name: str) -> tuple[str, ...]:
    return card(name).tags


def acts_without_boundaries(strategy: Strategy, world: World) -> bool:
    try:
        live(world.network(), unbroken(world.scenario), strategy, world.training)
    except RegraftError:
        return False
    return True


@pytest.mark.parametrize("name", METHODS)
def test_task_free_is_what_acts_without_boundaries(name: str) -> None:
    strategies = small(method_named(name)), method_named(name)()
    acts = any(acts_without_boundaries(strategy, world) for strategy in strategies for world in UNTOLD)
    assert ("task-free" in tags(name)) == acts


def leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(each)


def keeps_rows(name: str) -> bool:
    """Whether a row that was learned is in memory, as it was, or all of them are read again."""
    strategy, world = small(method_named(name)), home(name)
    shown = [task.train["input_ids" if "input_ids" in task.train else "x"] for task in world.scenario.tasks]
    kept = [t for t in leaves(lived(strategy, world).lived.memory) if t.shape[1:] == shown[0].shape[1:]]
    return strategy.reads == "all" or any(bool((x[:, None] == t).all(-1).any()) for x in shown for t in kept if t.dim())


@pytest.mark.parametrize("name", METHODS)
def test_exemplar_free_is_what_keeps_no_row(name: str) -> None:
    assert ("exemplar-free" in tags(name)) == (not keeps_rows(name))


@pytest.mark.parametrize("name", [name for name in METHODS if name in TRIED])
def test_class_incremental_is_what_was_measured_to_serve_one_head(name: str) -> None:
    better = [(r, plain) for on, _, r, plain in stood(name) if on in ONE_HEAD and plain not in alike([r, plain])]
    assert ("class-incremental" in tags(name)) == any(
        row.mean("forgetting")[0] <= plain.mean("forgetting")[0] / 2 for row, plain in better
    )

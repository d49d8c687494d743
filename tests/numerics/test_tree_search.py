"""Tree search: the best leaf of a small tree, visits and returns that add up, and the same tree from the same dice."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from regraft.core.errors import RegraftError
from regraft.numerics.tree_search import Node, search


class Leaves:
    """A binary tree; a way is a string of its steps, and what it is worth is paid at its end."""

    def __init__(self, worth: dict[str, float]) -> None:
        self.worth, self.depth = worth, max(map(len, worth))

    def actions(self, state: str) -> Sequence[str]:
        return "" if len(state) == self.depth else "lr"

    def step(self, state: str, action: str) -> tuple[str, float]:
        return state + action, self.worth.get(state + action, 0.0)


WORTH = {"lll": 0.3, "llr": 0.3, "lrl": 0.3, "lrr": 0.3, "rll": 0.0, "rlr": 0.0, "rrl": 0.1, "rrr": 1.0}


def nodes(node: Node[Any, Any]) -> list[Node[Any, Any]]:
    return [node, *(each for child in node.children.values() for each in nodes(child))]


def looked_at(node: Node[Any, Any]) -> list[Any]:
    return [(each.state, each.visits, each.returns) for each in nodes(node)]


@pytest.mark.parametrize("seed", range(10))
def test_the_best_leaf_is_found_and_visited_most(seed: int) -> None:
    found = search(Leaves(WORTH), "", random.Random(seed), simulations=200, depth=3)
    assert (found.actions, found.value) == (tuple("rrr"), 1.0)
    leaves = {node.state: node.visits for node in nodes(found.root) if len(node.state) == 3}
    assert max(leaves, key=lambda state: leaves[state]) == "rrr"


def test_visits_and_returns_add_up() -> None:
    found = search(Leaves(WORTH), "", random.Random(0), simulations=50, depth=3, discount=0.9)
    assert found.root.visits == 50
    assert found.value == pytest.approx(0.81)
    for node in nodes(found.root):
        below = sum(child.visits for child in node.children.values())
        if node is found.root:
            assert node.visits == below
            assert node.returns == pytest.approx(sum(child.returns for child in node.children.values()))
        elif len(node.state) == 3:
            assert node.returns == pytest.approx(node.visits * node.reward)
        else:
            assert node.visits == below + 1


def test_children_are_tried_once_each_and_then_by_their_score() -> None:
    """Two arms that always pay the same: what UCB1 pulls, written out."""
    pays, c = {"l": 0.4, "r": 0.6}, 0.5
    found = search(Leaves(pays), "", random.Random(1), simulations=40, depth=1, c=c)
    pulls = dict.fromkeys(found.root.children, 1)
    for t in range(2, 40):
        pulls[max(pulls, key=lambda arm: pays[arm] + c * math.sqrt(math.log(t) / pulls[arm]))] += 1
    assert {arm: child.visits for arm, child in found.root.children.items()} == pulls
    assert all(child.returns == pytest.approx(pays[arm] * pulls[arm]) for arm, child in found.root.children.items())


def test_the_same_dice_grow_the_same_tree() -> None:
    one, same, other = (search(Leaves(WORTH), "", random.Random(seed), simulations=9, depth=3) for seed in (3, 3, 4))
    assert looked_at(one.root) == looked_at(same.root)
    assert one.actions == same.actions
    assert looked_at(one.root) != looked_at(other.root)


def test_no_way_is_longer_than_the_depth_and_one_simulation_is_a_random_way() -> None:
    found = search(Leaves({"r": 0.5, **WORTH}), "", random.Random(0), simulations=60, depth=2)
    assert (found.actions[0], len(found.actions), found.value) == ("r", 2, 0.5)
    assert max(len(node.state) for node in nodes(found.root)) == 2
    assert len(search(Leaves(WORTH), "", random.Random(0), simulations=1, depth=3).actions) == 3


def test_where_nothing_can_be_done_the_way_is_empty() -> None:
    found = search(Leaves(WORTH), "lll", random.Random(0), simulations=3, depth=2)
    assert (found.actions, found.value, found.root.visits) == ((), 0.0, 3)


@pytest.mark.parametrize(("simulations", "depth"), [(0, 1), (1, 0)])
def test_nothing_to_try_is_an_error(simulations: int, depth: int) -> None:
    with pytest.raises(RegraftError, match="both must be at least 1"):
        search(Leaves(WORTH), "", random.Random(0), simulations=simulations, depth=depth)

"""Monte-Carlo tree search: good ways through a world in which steps can be tried out.

    down     from the root, each time to the child of the highest score, until a node has an action that was not tried
    out      that action, one new node
    on       random actions, until the world ends or the way is `depth` steps long
    back     G <- reward + discount · G, up to the root; every node on the way sums the G of its visits

    score = G(child) / N(child) + c sqrt(ln N(parent) / N(child))

Paper: "Bandit Based Monte-Carlo Planning" Kocsis and Szepesvari 2006. https://doi.org/10.1007/11871842_29
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from regraft.core.errors import RegraftError

State = TypeVar("State")
Action = TypeVar("Action", bound=Hashable)


class World(Protocol[State, Action]):
    """What is searched. The same action in the same state has the same outcome."""

    def actions(self, state: State) -> Sequence[Action]:
        """What can be done; nothing where the world ends."""
        ...

    def step(self, state: State, action: Action) -> tuple[State, float]:
        """The next state, and the reward of the step."""
        ...


@dataclass(eq=False)
class Node(Generic[State, Action]):
    """A state that was reached by a step of this reward; `returns`: G of all visits, that step included."""

    state: State
    untried: list[Action]
    reward: float = 0.0
    children: dict[Action, Node[State, Action]] = field(default_factory=dict)
    visits: int = 0
    returns: float = 0.0

    def best(self, c: float) -> Action:
        """The action whose child has the highest score."""

        def score(action: Action) -> float:
            child = self.children[action]
            return child.returns / child.visits + c * math.sqrt(math.log(self.visits) / child.visits)

        return max(self.children, key=score)


class Found(NamedTuple, Generic[State, Action]):
    """The tree, and the best way that was tried: its actions from the root on, and its discounted return."""

    root: Node[State, Action]
    actions: tuple[Action, ...]
    value: float


def search(
    world: World[State, Action],
    state: State,
    dice: random.Random,
    *,
    simulations: int,
    depth: int,
    c: float = math.sqrt(2),
    discount: float = 1.0,
) -> Found[State, Action]:
    """Tries so many ways of at most `depth` steps from a state. Of ways that are equally good the first is kept."""
    if simulations < 1 or depth < 1:
        raise RegraftError(f"a tree search of {simulations} simulations, {depth} steps deep; both must be at least 1")

    def node(state: State, reward: float, left: int) -> Node[State, Action]:
        untried = list(world.actions(state)) if left else []
        dice.shuffle(untried)
        return Node(state, untried, reward)

    found = Found(node(state, 0.0, depth), (), -math.inf)
    for _ in range(simulations):
        way, actions = [found.root], list[Action]()
        while not way[-1].untried and way[-1].children:
            actions.append(way[-1].best(c))
            way.append(way[-1].children[actions[-1]])
        if way[-1].untried:
            actions.append(way[-1].untried.pop())
            after, reward = world.step(way[-1].state, actions[-1])
            way[-1].children[actions[-1]] = node(after, reward, depth - len(way))
            way.append(way[-1].children[actions[-1]])
        on, G = _at_random(world, way[-1].state, depth - len(actions), discount, dice)
        for each in reversed(way[1:]):
            G = each.reward + discount * G
            each.visits += 1
            each.returns += G
        found.root.visits += 1
        found.root.returns += G
        if found.value < G:
            found = Found(found.root, (*actions, *on), G)
    return found


def _at_random(
    world: World[State, Action], state: State, steps: int, discount: float, dice: random.Random
) -> tuple[list[Action], float]:
    """Random actions, so many at most, and their discounted return."""
    actions, value = list[Action](), 0.0
    while len(actions) < steps and (offered := world.actions(state)):
        state, reward = world.step(state, action := dice.choice(offered))
        value += discount ** len(actions) * reward
        actions.append(action)
    return actions, value

"""A household in text, for a language model of 0.2M weights: what two agents do in it, and a text that is general.

    goes hall, takes cup, drops cup, boxes cup         what an agent can do; a box stands in one of the rooms

    tracking     tom hall ann attic cup garden book attic key hall then ann takes book ann goes hall where book
                 hall
    counting     tom takes cup tom goes hall ann goes attic tom takes key many tom
                 two
    plan         tom hall box attic cup garden book hall key hall goal cup box plan
                 goes garden takes cup goes attic boxes cup
    activity     tom hall box attic cup garden book hall key hall then goes garden takes cup goes attic boxes cup goal
                 cup box

What is tracked and counted comes from random exploration, plans and activities from tree search. A plan is right if it
can be carried out and ends where it should; anything else, if it is the answer, word by word. A thing that is tracked
was moved in 6 of 10 rows that are learned; in those that are asked, always.

The general text has the same words and some more: pairs of words that are said again in another order, after a mark, of
which the second time counts, and sentences in which a word is followed by one of four. A base has learned it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.rows import Rows
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks, join_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import uncounted, write
from regraft.numerics.sampling import Sampling
from regraft.numerics.tree_search import search
from regraft.worlds import llama
from regraft.worlds.taught import taught

ROOMS, AGENTS, BOX, OBJECTS = ("hall", "attic", "garden", "kitchen"), ("tom", "ann"), "box", ("cup", "book", "key")
NUMBERS, VERBS = ("zero", "one", "two", "three"), ("goes", "takes", "drops", "boxes")
ASKS = ("then", "where", "many", "goal", "plan")
OTHERS = ("red", "blue", "green", "white", "bread", "soup", "rice", "cake", "dog", "cat", "sun", "rain")
WORDS, MARKS = (*ROOMS, *AGENTS, BOX, *OBJECTS, *NUMBERS, *VERBS, *ASKS, *OTHERS), (":", "?", "!")
TRACKED, COUNTED, MOVED = 2, 4, 0.6
SIMULATIONS, LONGEST, DISCOUNT = 300, 6, 0.9
EACH, TESTED = 1000, 200
PAIRS, SENTENCE, FOLLOW = {2: 0.2, 3: 0.4, 4: 0.2}, 16, (0.5, 0.25, 0.15, 0.1)
GENERAL, HELD = 30_000, 600
WIDTH, DEPTH, CONTEXT, SPREAD = 64, 3, 40, 3.0
BASE_STEPS, BASE_BATCH, BASE_LR = 1600, 64, 3e-3

State: TypeAlias = Mapping[str, str]
"""Where each agent, the box and each object is: a room, an agent or the box."""

Action: TypeAlias = tuple[str, str, str]
"""Who does what, and to what or where."""


# --- the simulator --------------------------------------------------------------------------------------------------


def room_of(state: State, thing: str) -> str:
    place = state[thing]
    return place if place in ROOMS else room_of(state, place)


def possible(state: State, agents: Iterable[str] = AGENTS) -> list[Action]:
    """What the agents can do."""
    found: list[Action] = []
    for agent in agents:
        here = state[agent]
        found += [(agent, "goes", room) for room in ROOMS if room != here]
        for thing in OBJECTS:
            if state[thing] == agent:
                found.append((agent, "drops", thing))
                found += [(agent, "boxes", thing)] if state[BOX] == here else []
            elif state[thing] not in AGENTS and room_of(state, thing) == here:
                found.append((agent, "takes", thing))
    return found


def after(state: State, action: Action) -> State:
    """What a possible action leads to."""
    agent, verb, noun = action
    match verb:
        case "goes":
            return {**state, agent: noun}
        case "takes":
            return {**state, noun: agent}
        case "drops":
            return {**state, noun: state[agent]}
        case _:
            return {**state, noun: BOX}


class Errand(NamedTuple):
    """A thing is to be brought to a room or into the box: a world that `search` looks for ways through."""

    agent: str
    thing: str
    place: str

    def actions(self, state: State) -> list[Action]:
        return [] if state[self.thing] == self.place else possible(state, [self.agent])

    def step(self, state: State, action: Action) -> tuple[State, float]:
        then = after(state, action)
        return then, float(then[self.thing] == self.place)

    def done_by(self, state: State, plan: str) -> bool:
        """Whether a plan can be carried out from a state, and ends where the thing should be."""
        words = plan.split()
        if len(words) % 2:
            return False
        for verb, noun in zip(words[::2], words[1::2], strict=True):
            action = (self.agent, verb, noun)
            if action not in possible(state, [self.agent]):
                return False
            state = after(state, action)
        return state[self.thing] == self.place


def start(dice: random.Random) -> State:
    return {thing: dice.choice(ROOMS) for thing in (*AGENTS, BOX, *OBJECTS)}


def explored(dice: random.Random, steps: int) -> tuple[State, list[Action], State]:
    """A start, so many random actions, and the end. What is done is drawn first, then to what."""
    first = state = start(dice)
    actions: list[Action] = []
    for _ in range(steps):
        offered = possible(state)
        verb = dice.choice(sorted({action[1] for action in offered}))
        actions.append(dice.choice([action for action in offered if action[1] == verb]))
        state = after(state, actions[-1])
    return first, actions, state


# --- questions ------------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    prompt: str
    answer: str
    right: Callable[[str], bool]
    """Whether what was written is."""


def tracking(dice: random.Random, moved: float = MOVED) -> Question:
    """Where a thing is; it is in another room than before in a part `moved` of the questions."""
    asks = dice.random() < moved
    while True:
        first, actions, last = explored(dice, TRACKED)
        if things := [thing for thing in OBJECTS if (room_of(last, thing) != first[thing]) == asks]:
            thing = dice.choice(things)
            prompt = f"{_placed(first, (*AGENTS, *OBJECTS))} then{_told(actions)} where {thing}"
            return _literal(prompt, f" {room_of(last, thing)}")


def counting(dice: random.Random) -> Question:
    """How many things an agent has: zero, one or two, each as often."""
    agent, number = dice.choice(AGENTS), dice.randrange(3)
    while True:
        _, actions, last = explored(dice, COUNTED)
        if sum(last[thing] == agent for thing in OBJECTS) == number:
            return _literal(f"{_told(actions)} many {agent}", f" {NUMBERS[number]}")


def errand(dice: random.Random) -> tuple[Question, Question]:
    """Which plan brings a thing to a place; and what an agent wants who carries that plan out."""
    while True:
        first, agent, thing = start(dice), dice.choice(AGENTS), dice.choice(OBJECTS)
        wanted = Errand(agent, thing, dice.choice([place for place in (*ROOMS, BOX) if place != first[thing]]))
        found = search(wanted, first, dice, simulations=SIMULATIONS, depth=LONGEST, discount=DISCOUNT)
        if found.value > 0:
            break
    scene, goal = _placed(first, (agent, BOX, *OBJECTS)), f" {thing} {wanted.place}"
    plan = "".join(f" {verb} {noun}" for _, verb, noun in found.actions)
    asked = Question(f"{scene} goal{goal} plan", plan, lambda said: wanted.done_by(first, said))
    return asked, _literal(f"{scene} then{plan} goal", goal)


@cache
def questions(seed: int, count: int, *, moved: float = MOVED) -> dict[str, list[Question]]:
    """So many questions of each kind."""
    dice = random.Random(seed)
    found = {"tracking": [tracking(dice, moved) for _ in range(count)]}
    found["counting"] = [counting(dice) for _ in range(count)]
    found["plan"], found["activity"] = (list(kind) for kind in zip(*(errand(dice) for _ in range(count)), strict=True))
    return found


def rows(seed: int) -> Rows:
    """`EACH` questions of every kind, of which the answer and its end are learned."""
    tables = [_blocks(asked) for asked in questions(seed, EACH).values()]
    return join_blocks(tables)


def rates(model: CausalLM, seed: int) -> dict[str, float]:
    """The part of each kind's questions that the model answers rightly, on fresh ones."""
    found = {}
    for kind, asked in questions(1000 + seed, TESTED, moved=1.0).items():
        prompts = _ids(question.prompt for question in asked)
        with uncounted():
            written = write(
                model, prompts, torch.Generator(), tokens=2 * LONGEST + 1, how=Sampling(temperature=0.0), rows=TESTED
            )
        said = [written.ids(row) for row in range(len(asked))]
        texts = tokenizer().batch_decode(said, skip_special_tokens=True)
        found[kind] = sum(q.right(text) for q, text in zip(asked, texts, strict=True)) / len(asked)
    return found


# --- general text ---------------------------------------------------------------------------------------------------


@cache
def general(seed: int, count: int = GENERAL, *, held: bool = False) -> Rows:
    """So many rows of the general text, in random order; those held out are drawn by other dice."""
    dice = torch.Generator().manual_seed(2 * seed + held)
    said_again = [_again(pairs, round(part * count), dice) for pairs, part in PAIRS.items()]
    left = count - sum(table.count for table in said_again)
    whole = join_blocks([*said_again, _sentences(left, seed, dice)])
    return whole.take(torch.randperm(count, generator=dice))


def base(seed: int) -> CausalLM:
    """A model that has read the general text; what its training costs is counted for no arm."""
    return copy.deepcopy(_base(seed))


@cache
def _base(seed: int) -> CausalLM:
    model = llama.llama(tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    with torch.no_grad():
        for weights in model.module.parameters():
            if weights.dim() == 2:
                weights.mul_(SPREAD)  # from weights as small as large models begin with, it hardly learns to look back
    knobs = {"betas": (0.9, 0.98)}
    training = Training(BASE_STEPS, BASE_BATCH, BASE_LR, knobs=knobs, seed=seed, log_every=BASE_STEPS)
    return taught(model, general(seed), training)


def _again(pairs: int, count: int, dice: torch.Generator) -> Rows:
    """Pairs of different words, a mark, and the pairs in another order; what comes after the mark counts."""
    words = torch.rand(count, len(WORDS), generator=dice).argsort(1)[:, : 2 * pairs].view(count, pairs, 2)
    order = torch.rand(count, pairs, generator=dice).argsort(1)
    again = words.gather(1, order[..., None].expand(-1, -1, 2))
    marks = _tokens(MARKS)[torch.randint(len(MARKS), (count, 1), generator=dice)]
    return _rows(torch.cat([_tokens(WORDS)[words].flatten(1), marks], 1), _tokens(WORDS)[again].flatten(1))


def _sentences(count: int, seed: int, dice: torch.Generator) -> Rows:
    """Words of which each is followed by one of four others, by a table of the seed; all but the first count."""
    table = torch.rand(len(WORDS), len(WORDS), generator=torch.Generator().manual_seed(seed))
    follows, often = table.argsort(1)[:, : len(FOLLOW)], torch.tensor(FOLLOW)
    words = [torch.randint(len(WORDS), (count,), generator=dice)]
    for _ in range(SENTENCE - 1):
        words.append(follows[words[-1], torch.multinomial(often, count, replacement=True, generator=dice)])
    ids = _tokens(WORDS)[torch.stack(words, 1)]
    return _rows(ids[:, :1], ids[:, 1:])


def _rows(prompts: Tensor, answers: Tensor) -> Rows:
    """Blocks of prompts and answers, each of one length; the answers and the end after them are learned."""
    ended = F.pad(answers, (0, 1), value=tokenizer().eos_token_id)
    whole = (torch.full((len(t),), t.shape[1]) for t in (prompts, ended))
    return answer_blocks(*(Padded(ids, lengths) for ids, lengths in zip((prompts, ended), whole, strict=True)))


# --- words ----------------------------------------------------------------------------------------------------------


def _literal(prompt: str, answer: str) -> Question:
    return Question(prompt, answer, lambda said: said == answer)


def _placed(state: State, things: Sequence[str]) -> str:
    return "".join(f" {thing} {state[thing]}" for thing in things)


def _told(actions: Sequence[Action]) -> str:
    return "".join(f" {' '.join(action)}" for action in actions)


def _blocks(asked: Sequence[Question]) -> Rows:
    answers = [[*answer, tokenizer().eos_token_id] for answer in _ids(question.answer for question in asked)]
    return answer_blocks(Padded.of(_ids(question.prompt for question in asked)), Padded.of(answers))


def _ids(texts: Iterable[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer()(list(texts))["input_ids"]
    return ids


@cache
def _tokens(words: Sequence[str]) -> Tensor:
    """The token of each word."""
    return torch.tensor([token for (token,) in _ids(f" {word}" for word in words)])


@cache
def tokenizer() -> Any:
    """One token a word."""
    return llama.bpe([f" {word}" for word in (*WORDS, *MARKS)] * 100, 512)

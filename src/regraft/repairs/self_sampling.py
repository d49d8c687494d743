"""Self-sampling: right solutions that the model finds itself, and right beginnings of them, are learned together.

    each round:   s ~ the beginnings kept of x (the empty one among them),   y = s + what pi writes after it
                  y is right                               -> kept as a solution of x
                  else its longest part that ends in a state
                  which a kept solution or beginning is in  -> kept as a beginning
    l = marginal(all that is kept of x; beta)

Nothing is kept twice, or that is the beginning of what is kept; a beginning gives way to what goes on from it. Nor is
what takes more than `tolerance` steps more than the shortest that is known to get there. `trace` gives rows a column
`states`: of what is `written`, the state after each of its steps, None where there is none. Without it solutions alone
are kept (FCP), with it beginnings too (PCP). A step ends with a token that holds one of `ends`. Of a question at most
`most` are learned, solutions first. `samples`: how often each question is tried in a round; 0: demonstrations alone.

Paper:   "Learning Math Reasoning from Self-Sampled Correct and Partially-Correct Solutions" Ni et al. 2023.
         https://arxiv.org/abs/2205.14318
Needs:   demonstrations, or a model that answers some questions; to keep beginnings, a trace.
Differs: the model writes in rounds, and not before each update. What is the same is so by its tokens; the authors
         format programs first.
Tags:    self-training, demonstrations, language model
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Transform
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.numerics.answer_sets import set_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.step_values import gone_on
from regraft.numerics.steps import ends_in
from regraft.parts.losses.marginal import marginal
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.answered import still
from regraft.recipes.repairing import Workshop, repair

FOUND = "found"
Tokens: TypeAlias = tuple[int, ...]


class Found:
    """What is known of one question: `solutions`, `beginnings`, and in how few steps each state is reached."""

    def __init__(self) -> None:
        self.solutions: list[Tokens] = []
        self.beginnings: list[Tokens] = [()]
        self.fewest: dict[str, int] = {}
        self.shortest: int | None = None

    def add(self, said: Tokens, upto: Sequence[int], states: Sequence[str | None], right: bool, tolerance: int) -> bool:
        """Whether something of an answer is kept.

        Args:
            upto: how many tokens there are up to the end of each step.
            states: after each step.
        """
        if right:
            if said in self.solutions or (self.shortest is not None and len(upto) > self.shortest + tolerance):
                return False
            self.shortest = min(len(upto), self.shortest or len(upto))
            states = states[:-1]
        else:
            reached = [
                k for k, state in enumerate(states, 1) if k <= self.fewest.get(state or "", -tolerance) + tolerance
            ]
            if not reached:
                return False
            states, said = states[: reached[-1]], said[: upto[reached[-1] - 1]]
            if any(each[: len(said)] == said for each in (*self.solutions, *self.beginnings)):
                return False
        self.beginnings = [each for each in self.beginnings if not each or said[: len(each)] != each]
        (self.solutions if right else self.beginnings).append(said)
        for k, state in enumerate(states, 1):
            if state is not None:
                self.fewest[state] = min(k, self.fewest.get(state, k))
        return True

    def learned(self, most: int, end: int) -> list[Tokens]:
        """Solutions, with the token that ends a text, and then beginnings."""
        return [*((*each, end) for each in self.solutions), *filter(None, self.beginnings)][:most]


@repair
def self_sampling(
    w: Workshop,
    *,
    trace: Transform | None = None,
    beta: float = 0.0,
    rounds: int = 10,
    samples: int = 1,
    tolerance: int = 0,
    most: int = 10,
    ends: tuple[str, ...] = ("\n",),
) -> None:
    if rounds < 1 or samples < 0 or tolerance < 0 or most < 1:
        raise RegraftError(
            f"self_sampling: rounds is {rounds}, samples {samples}, tolerance {tolerance}, most {most}; "
            "the first and the last must be 1 or more, the others 0 or more"
        )
    items, tokenizer = w.lesson.items, w.model.tokenizer
    prompts, end = items["prompt_ids"], tokenizer.eos_token_id
    ending, dice = ends_in(w.model, ends), random.Random(w.training.seed)
    known = [Found() for _ in range(items.count)]

    def kept(rows: Rows, place: Sequence[int], answers: list[Tokens]) -> None:
        states = None if trace is None else trace(rows, still(w.model, torch.Generator()))["states"]
        for row, (at, said) in enumerate(zip(place, answers, strict=True)):
            upto = [t + 1 for t, token in enumerate(said) if ending[token] or t + 1 == len(said)]
            own = [None] * len(upto) if states is None else states[row]
            known[at].add(said, upto, own, bool(rows["reward"][row] >= 1), tolerance)

    if w.lesson.shown is not None:
        at, answers = _demonstrated(w.lesson.shown, items["row"], end)
        said = tokenizer.batch_decode([list(each) for each in answers], skip_special_tokens=True)
        kept(items.take(at).having(written=said, reward=torch.ones(len(at))), at.tolist(), answers)
    plan = Plan((Feed(FOUND, shuffled(FOUND)),), (Weighted(marginal(beta=beta), on=(FOUND,)),))
    for number in range(rounds):
        place = [at for at in range(items.count) for _ in range(samples)]
        begun = [list(dice.choice(known[at].beginnings)) for at in place]
        if place:
            rows, answers = _written(w, items.take(place).having(prefix_ids=begun), number, end)
            kept(rows, place, answers)
        sets = [each.learned(most, end) for each in known]
        some = [at for at, own in enumerate(sets) if own]
        solutions, beginnings = (
            sum(map(len, c)) for c in zip(*((k.solutions, k.beginnings[1:]) for k in known), strict=True)
        )
        w.note(f"kept       {solutions} solutions and {beginnings} beginnings, of {items.count} questions")
        if some:
            found = set_blocks([prompts[at] for at in some], [sets[at] for at in some])
            w.fit(plan, w.left // (rounds - number), data={FOUND: found.having(row=torch.arange(found.count))})


def _written(w: Workshop, items: Rows, number: int, end: int) -> tuple[Rows, list[Tokens]]:
    """The answers begun with `prefix_ids`, judged, and their tokens without the end."""

    def make() -> dict[str, object]:
        dice = torch.Generator().manual_seed(w.training.seed * 1_000 + number)
        asking, judge = w.lesson.asking, w.lesson.judge
        rows, answers = gone_on(w.model, items, judge, asking, still(w.model, dice), dice)
        return {"judged": {name: rows[name] for name in ("written", "reward")}, "answers": answers._asdict()}

    made = w.doer.keep({"written": items.count, "round": number}, make)
    answers = Padded(**made["answers"])
    tokens = [tuple(ids[:n].tolist()) for ids, n in zip(answers.ids, answers.lengths.tolist(), strict=True)]
    return items.having(**made["judged"]), [_ended(each, end) for each in tokens]


def _demonstrated(shown: Rows, questions: Tensor, end: int) -> tuple[Tensor, list[Tokens]]:
    """Which question each demonstration answers, and its tokens without the end."""
    there = torch.isin(shown["item"], questions)
    place = {row: at for at, row in enumerate(questions.tolist())}
    own = shown.where(there)
    tokens = [tuple(ids[counts > 0].tolist()) for ids, counts in zip(own["targets"], own["counts"], strict=True)]
    return torch.tensor([place[item] for item in own["item"].tolist()]), [_ended(each, end) for each in tokens]


def _ended(tokens: Tokens, end: int) -> Tokens:
    return tokens[:-1] if tokens[-1:] == (end,) else tokens

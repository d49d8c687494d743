"""Repairs: ways to give a language model skills that it lacks, by questions whose answers can be checked.

A repair is a file in `repairs/` that defines a function of its own name under `@repair`. It is called with a
`Workshop`: the model, what there is to learn from, and how many updates may be spent. What it decides on the way it
notes. The same function runs in memory (a claim, a study) and on a line, where every call is kept and resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Concatenate, ParamSpec, Protocol, cast

import torch
from torch import Tensor

from regraft.core.define import Spec, knobbed
from regraft.core.errors import RegraftError
from regraft.core.parts import Measurement, Model, Sampler, Transform
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import Fitted, Meter, fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import Written
from regraft.numerics.tally import MOST_FAULTS, faults
from regraft.numerics.trying import Asking, Tried, tried
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.metrics.capability_map import read_map
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.recipes.answered import still

P = ParamSpec("P")
ITEMS, SHOWN, KEPT, PAIRS, RL = "items", "shown", "kept", "pairs", "rl"


@dataclass(frozen=True)
class Lesson:
    """What a model is to learn from.

    Attributes:
        items: questions: `prompt`, `prompt_ids`, `answer`, `skills` (names of each), `row`, and what the judge reads.
        judge: rows with what was `written` -> the same rows with a `reward`: 1 or more where it is right.
        asking: how answers are written.
        shown: demonstrations, as blocks: `item`, the `row` of the question that each answers, and `row`.
        pairs: preferred answers beside others, as `pair_blocks`, and `row`.
        kept: blocks of old text, and `row`.
    """

    items: Rows
    judge: Transform
    asking: Asking
    shown: Rows | None = None
    pairs: Rows | None = None
    kept: Rows | None = None

    def data(self) -> dict[str, Rows]:
        named = {ITEMS: self.items, SHOWN: self.shown, PAIRS: self.pairs, KEPT: self.kept}
        return {name: rows for name, rows in named.items() if rows is not None}

    def of(self, skills: Sequence[str]) -> Tensor:
        """Which questions show one of these skills, bool [items]."""
        return torch.tensor([not set(skills).isdisjoint(own) for own in self.items["skills"]])

    def demonstrations(self, items: Tensor) -> Rows:
        """Those that answer some of these questions, bool [items]."""
        if self.shown is None:
            raise RegraftError("there are no demonstrations", do="Give answers to learn from, or another repair")
        chosen = self.items["row"][items]
        return self.shown.where(torch.isin(self.shown["item"], chosen))


class Doer(Protocol):
    """Who carries out what a repair asks for: in memory, or as the calls of an update on a line."""

    def fit(
        self, model: CausalLM, plan: Plan, data: Mapping[str, Rows], training: Training, others: Mapping[str, Model]
    ) -> Fitted: ...
    def keep(self, what: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, tensors and JSON values; made once, also where a run is gone through again."""
        ...

    def note(self, text: str) -> None: ...


class InMemory:
    """Does it here and now; `meter` hears of every update."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.meter, self.notes = meter, list[str]()
        self.memory: dict[str, Any] = {}

    def fit(
        self, model: CausalLM, plan: Plan, data: Mapping[str, Rows], training: Training, others: Mapping[str, Model]
    ) -> Fitted:
        found = fit(model, plan, data, training, others=others, memory=self.memory, meter=self.meter)
        self.memory = found.memory
        return found

    def keep(self, what: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        return make()

    def note(self, text: str) -> None:
        self.notes.append(text)


class Workshop:
    """What a repair works with.

    Args:
        training: of every stage; `steps` is how many updates may be spent in all.
        beside: what is in every plan for the model: replay of old text, what may move. Shares of a repair's own feeds
            are of the rest of the batch.
    """

    def __init__(
        self,
        model: CausalLM,
        lesson: Lesson,
        training: Training,
        doer: Doer | None = None,
        *,
        beside: Plan | None = None,
    ) -> None:
        self.model, self.lesson, self.training = model, lesson, training
        self.doer: Doer = doer or InMemory()
        self.beside = beside or Plan()
        self.left = training.steps
        self.fits = self.tries = 0

    def note(self, text: str) -> None:
        """Says what was decided, and why."""
        self.doer.note(text)

    def fit(
        self,
        plan: Plan,
        steps: int | None = None,
        *,
        lr: float = 1.0,
        data: Mapping[str, Rows] | None = None,
        others: Mapping[str, Model] | None = None,
        model: CausalLM | None = None,
    ) -> Fitted:
        """Minimises a plan over the model, in place.

        Args:
            steps: none: all that are left. Fewer are done where fewer are left.
            lr: a factor on the learning rate.
            data: rows beside those of the lesson, which have the names items, shown, pairs and kept.
            others: models that losses ask for by role; `before` is the model before this call.
            model: another than the workshop's.
        """
        steps = self.left if steps is None else min(steps, self.left)
        if not steps:
            return Fitted()
        if model is None:
            plan = _within(plan, self.beside) + self.beside
        own = {name: rows for name, rows in {**self.lesson.data(), **(data or {})}.items() if rows}
        seed = self.training.seed + 1_000_003 * self.fits
        training = replace(self.training, steps=steps, lr=self.training.lr * lr, seed=seed)
        self.left -= steps
        self.fits += 1
        found = self.doer.fit(model or self.model, plan, own, training, others or {})
        for written in (each for feed in plan.feeds for each in _written(feed.sampler)):
            self._warn(found.memory[written.name]["faults"])
        return found

    def _warn(self, unjudged: Mapping[str, int]) -> None:
        """Says how many answers the checker could not judge, and why."""
        for why, count in unjudged.items():
            self.note(f"checker    {count} answers: {why}")

    def tried(self, items: Rows | None = None, *, copies: int | None = None, model: CausalLM | None = None) -> Tried:
        """Answers of the model as it stands, judged: to all questions, or to some."""
        items = self.lesson.items if items is None else items
        asking = self.lesson.asking if copies is None else self.lesson.asking._replace(copies=copies)
        dice = torch.Generator().manual_seed(self.training.seed * 1_000 + self.tries)
        self.tries += 1
        who = model or self.model
        ctx = still(who, dice)
        made = self.doer.keep(
            {"tried": items.count, "copies": asking.copies, "number": self.tries},
            lambda: _packed(tried(who, items, self.lesson.judge, asking, ctx)),
        )
        answers = _unpacked(made, items, asking.copies)
        self._warn(dict(faults(answers.rows).most_common(MOST_FAULTS)))
        return answers

    def sample(self, each: int = 64) -> Rows:
        """Questions to draw a map of: of each skill at most so many, every second, third, ... of those there are."""
        items = self.lesson.items
        chosen = torch.zeros(items.count, dtype=torch.bool)
        for skill in dict.fromkeys(name for names in items["skills"] for name in names):
            own = self.lesson.of([skill]).nonzero()[:, 0]
            chosen[own[:: max(1, len(own) // each)][:each]] = True
        return items.where(chosen)

    def map(self, answers: Tried | None = None, items: Rows | None = None) -> Measurement:
        """The capability map of the lesson's questions, or of those that were answered: see `capability_map`."""
        return read_map(self.lesson.items if items is None else items, answers or self.tried(items))

    def failing(self, answers: Tried | None = None) -> list[str]:
        """The skills that the map does not call known, the weakest first."""
        return [each["skill"] for each in self.map(answers).tables["skills"] if each["state"] != "known"]

    def reinforced(
        self,
        prompts: Sampler | None = None,
        then: Sequence[Transform] | None = None,
        loss: Any = None,
        **knobs: Any,
    ) -> Plan:
        """Policy gradient on answers to questions: the feed `rl`.

        Args:
            prompts: what draws from `items`; none: each as often.
            then: what follows the judge; none: advantages by the group.
            loss: none: the clipped policy gradient, divided by the longest answer.
            knobs: of `rollouts`.
        """
        asking = self.lesson.asking
        how = {"temperature": asking.how.temperature, "top_k": asking.how.top_k, "top_p": asking.how.top_p}
        own = {"copies": asking.copies, "tokens": asking.tokens, "stop": asking.stop, "at_once": asking.at_once, **how}
        after = (group_advantage(),) if then is None else tuple(then)
        written = rollouts(prompts or shuffled(ITEMS), (self.lesson.judge, *after), **{**own, **knobs})
        return Plan((Feed(RL, written),), (Weighted(loss or policy_gradient(per=asking.tokens), on=(RL,)),))

    def right(self, answers: Tried, skills: Sequence[str] | None = None) -> Rows:
        """The right ones among answers, as demonstrations: each text once for a question.

        Args:
            skills: of questions that show one of these; none: all.
        """
        rows, written, _ = answers
        chosen = rows["reward"] >= 1
        if skills is not None:
            chosen &= torch.tensor([not set(skills).isdisjoint(own) for own in rows["skills"]])
        first: dict[tuple[int, tuple[int, ...]], int] = {}
        for row in chosen.nonzero()[:, 0].tolist():
            first.setdefault((int(rows["row"][row]), tuple(written.ids(row))), row)
        at = torch.tensor(list(first.values()), dtype=torch.long)
        said = Padded(written.tokens[at], written.lengths[at])
        if not len(at):
            return Rows({})
        blocks = answer_blocks(Padded.of([rows["prompt_ids"][i] for i in at.tolist()]), said)
        return blocks.having(item=rows["row"][at], row=torch.arange(len(at)))

    def imitated(self, sampler: Sampler | None = None, **place: Any) -> Plan:
        """Likelihood of the demonstrations: the feed `shown`; `place`: its share, or solo."""
        return Plan((Feed(SHOWN, sampler or shuffled(SHOWN), **place),), (Weighted(nll(), on=(SHOWN,)),))


def _written(sampler: Any) -> Iterator[rollouts]:
    """Where a sampler has the model write, itself or by another."""
    if isinstance(sampler, rollouts):
        yield sampler
    elif is_dataclass(sampler):
        for knob in fields(sampler):
            yield from _written(getattr(sampler, knob.name))


def _within(plan: Plan, beside: Plan) -> Plan:
    """The plan in what the other's feeds leave of a batch."""
    rest = 1 - sum(f.share for f in beside.feeds if isinstance(f.share, float))
    feeds = (replace(f, share=f.share * rest) if isinstance(f.share, float) else f for f in plan.feeds)
    return replace(plan, feeds=tuple(feeds))


def _packed(answers: Tried) -> dict[str, Any]:
    """What was written and its rewards: the rest of the rows is in the items."""
    judged = {name: answers.rows[name] for name in ("written", "reward", "fault") if name in answers.rows}
    return {"judged": judged, "written": answers.written._asdict()}


def _unpacked(kept: Mapping[str, Any], items: Rows, copies: int) -> Tried:
    written = Written(**kept["written"])
    return Tried(items.take(written.prompt).having(**kept["judged"]), written, copies)


def replayed(share: float) -> Plan:
    """Old text, as a share of every batch: the feed `kept`."""
    return Plan((Feed(KEPT, shuffled(KEPT), share),), (Weighted(nll(), on=(KEPT,)),))


class Repair(Spec):
    """A repair with its knobs bound; called with a workshop, it spends the updates that are left."""

    def __call__(self, w: Workshop) -> None:
        self.make(w, **self.knobs)


def repair(make: Callable[Concatenate[Workshop, P], None]) -> Callable[P, Repair]:
    """A repair from `(workshop, *, knobs) -> None`."""
    return cast(Callable[P, Repair], knobbed(Repair, make))

"""Practise: give a language model skills that it lacks, by questions whose answers can be checked.

    theta_1 = repair(theta_0; questions, checker, demonstrations)      + replay of old text, in every batch

A fifth of the questions is held out, by their content; the model answers those before and after, and the gate judges
them beside what the line knows of old text. No question, demonstration or pair is learned that holds more than a part
`overlap` of a question that the line measures, by runs of 8 tokens. How the rest is learned says a repair (`repairs/`);
with nothing said the map of skills decides (`diagnosed`). Nothing is learned, and no version made, where no skill
fails.

Needs:   questions with answers; demonstrations (`prompt` and `completion`, or `messages`) for what cannot be found by
         trying.
Tags:    reinforcement learning, demonstrations, replay, language model
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.parts import Model
from regraft.core.plan import Plan
from regraft.core.rows import Rows
from regraft.data.corpus import Corpus
from regraft.data.pack import Blocks, pack
from regraft.engine.fit import Fitted
from regraft.engine.training import Training, optimizer_class
from regraft.evidence.items import Item, Items
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.overlap import held
from regraft.numerics.padded import Padded
from regraft.recipes import texts
from regraft.recipes.answered import Answering
from regraft.recipes.learn import one_part, parts
from regraft.recipes.preferences import paired
from regraft.recipes.questions import asked, wordings
from regraft.recipes.repairing import KEPT, PAIRS, SHOWN, Lesson, Workshop, replayed
from regraft.recipes.resolve import described
from regraft.recipes.sources import Sources, check_context
from regraft.recipes.update import Update
from regraft.store import CorpusUse, Version

HELD_OUT, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.2, 20, 400
SMALL, SMALL_LR, LARGE, LARGE_LR = 1e5, 1e-3, 7e9, 1e-6
REPLAY = 0.25
NEW = "new"


class Secret(NamedTuple):
    """The questions that are held out, in tokens: how they begin as they are asked, and what they say."""

    begins: set[tuple[int, ...]]
    words: list[list[int]]


@dataclass(frozen=True)
class Questions:
    """What is asked: questions to learn from, how they are answered, and the text that names them in the line.

    `preferred`: pairs of answers, as a text of the line, and the places of both sides in it, [pairs, 2].
    """

    items: Items
    how: Answering
    corpus: str
    jobs: int = 1
    preferred: tuple[str, Tensor] | None = None


def split(items: Items, known: Sequence[Items] = ()) -> tuple[Items, Items]:
    """Questions to learn from, and those held out, which follow from their content; one that is in a suite the line
    knows is neither.

    Raises RegraftError where no question is left on a side.
    """
    taken = {_print(item) for suite in known for item in suite.items}
    free = sorted((item for item in items.items if _print(item) not in taken), key=_print)
    count = min(max(round(HELD_OUT * len(free)), FEWEST_HELD_OUT), MOST_HELD_OUT, len(free) // 2)
    if not count:
        raise RegraftError(
            f"{len(free)} of {len(items.items)} questions are new to the line: too few to learn and to measure",
            where=items.name,
            do="Give more questions",
        )
    held = {item.id for item in free[:count]}
    new = {item.id for item in free[count:]}
    sides = [tuple(item for item in items.items if item.id in side) for side in (new, held)]
    learned, measured = (Items(items.name, side, skip_bad=items.skip_bad) for side in sides)
    return learned, measured


def _print(item: Item) -> str:
    return hashlib.sha256(repr((item.prompt, item.choices, item.answer)).encode()).hexdigest()


class practise(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    repair: Annotated[Any, one_part("repairs"), Field(description="how the skills are learned")] = "diagnosed"
    steps: Annotated[int, Field(gt=0, le=1 << 40, description="optimizer steps in all")] = 200
    batch: Annotated[int, Field(gt=0, le=1 << 24, description="rows of one optimizer step")] = 128
    micro_batch: Annotated[int | None, Field(gt=0, description="rows of one forward pass; none: the whole batch")] = (
        None
    )
    at_once: Annotated[int, Field(gt=0, description="answers that are written at once")] = 128
    lr: Annotated[float | None, Field(gt=0, description="learning rate; none: by the model's size")] = None
    replay: Annotated[float | None, Field(ge=0, lt=1, description="share of old text in every batch")] = None
    context: Annotated[int | None, Field(gt=1, description="tokens of a block of old text")] = None
    trainables: Annotated[list[Any], parts("trainables"), Field(description="what may move: lora, half, ...")] = []
    optimizer: Annotated[str, Field(description="a class of torch.optim")] = "AdamW"
    optimizer_knobs: Annotated[dict[str, Any], Field(description="its arguments")] = {}
    clip: Annotated[float | None, Field(gt=0)] = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    overlap: Annotated[float, Field(gt=0, le=1, description="part of a held-out question that a row may hold")] = 0.5
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0

    @model_validator(mode="after")
    def _check_optimizer(self) -> practise:
        optimizer_class(self.optimizer, self.optimizer_knobs)
        return self

    def __call__(self, u: Update, sources: Sources, questions: Questions, *, plan_only: bool = False) -> Version | None:
        context = check_context(self.context, u.model.context)
        how = questions.how
        asking = how.asking(u.model)._replace(at_once=self.at_once)
        notice = u.listener.notice
        suites = sources.suites(context)
        held_out = [item for suite in suites.values() if isinstance(suite, Items) for item in suite.items]
        secret = Secret(_asked_ids(u.model, held_out, how), wordings(u.model, held_out))
        items, copies = self._apart(u.model, questions.items, secret)
        if copies:
            notice(f"skipped    {copies} questions that hold more than {self.overlap:.0%} of one that is held out")
        rows, left_out = asked(u.model, items, tokens=asking.tokens, chat=how.chat)
        for why, count in left_out.items():
            notice(f"skipped    {count} questions: {why}")
        rows = rows.having(skill=[names[0] for names in rows["skills"]])
        before = u.measure("before", suites)
        kept, share, lines = self._kept(sources, context)
        shown = pairs = None
        if sources.learned is not None:
            shown, line = self._shown(u.model, sources.learned.train, rows, secret)
            lines.append(line)
        if questions.preferred is not None:
            pairs, line = self._pairs(u, *questions.preferred, rows, secret)
            lines.append(line)
        lr, why = self._rate(u.model)
        lines.append(f"rate       {lr:g}: {why}")
        lines.append(f"steps      {self.steps} of {self.batch} rows, {asking.copies} answers to a question")
        lines.append(f"repair     {self.repair}")
        notice("\n".join(lines))
        lesson = Lesson(rows, how.judge(questions.jobs), asking, shown, pairs, None if kept is None else kept.rows)
        training = Training(
            steps=self.steps,
            batch=self.batch,
            lr=lr,
            micro_batch=self.micro_batch,
            optimizer=self.optimizer,
            knobs=self.optimizer_knobs,
            clip=self.clip,
            precision=self.precision,
            seed=self.seed,
            log_every=max(1, self.steps // 100),
            explode=1e3,  # the value of a policy gradient says little of how it goes
        )
        beside = (replayed(share) if share else Plan()) + Plan(trainables=tuple(self.trainables))
        doer = OnLine(u, lines)
        if plan_only:
            return None
        self.repair(Workshop(u.model, lesson, training, doer, beside=beside))
        if not doer.curve:
            notice("nothing was learned, so there is no new version")
            return None
        if pairs is not None and PAIRS not in doer.read:
            notice(f"preferred  {pairs.count} pairs were not learned from: {self.repair} reads none")
        u.settle()
        after = u.measure("after", suites)
        used = [CorpusUse(text.digest, "kept") for text in sources.kept]
        used.append(CorpusUse(questions.corpus, "asked"))
        if kept is not None and KEPT in doer.seen:
            used += texts.uses(u.line, "replay", kept, doer.seen[KEPT])
        if questions.preferred is not None and PAIRS in doer.read:
            used.append(CorpusUse(questions.preferred[0], "preferred"))
        if sources.learned is not None and SHOWN in doer.seen:
            used.append(_used(u, sources.learned.train, doer.seen[SHOWN]))
        return u.commit(
            sources.message,
            evidence={"curve": doer.curve, "tokens": doer.tokens, "why": lines},
            readings={"before": before, "after": after},
            questions=[suite for suite in suites.values() if isinstance(suite, Items)],
            corpora=used,
            record={"recipe": "practise", "knobs": described(dict(self)), "lr": lr, "context": context},
            details={"skipped": dict(sources.skipped)},
        )

    def _apart(self, model: CausalLM, items: Items, secret: Secret) -> tuple[Items, int]:
        """The questions that hold little of those held out, and how many do not."""
        apart = held(wordings(model, items.items), secret.words) <= self.overlap
        if not apart.any():
            raise RegraftError(
                f"each of {len(apart)} questions holds more than {self.overlap:.0%} of one that is held out",
                where=items.name,
                do="Give other questions, or set overlap=1",
            )
        left = tuple(item for item, far in zip(items.items, apart, strict=True) if far)
        return Items(items.name, left, skip_bad=items.skip_bad), int((~apart).sum())

    def _kept(self, sources: Sources, context: int) -> tuple[Blocks | None, float, list[str]]:
        """Old text, its share of every batch, and why."""
        old = sources.old()
        if old is None:
            return None, 0.0, ["replay     no old text: what the model knew is protected by its own answers alone"]
        share, why = (REPLAY, "as for a strong shift") if self.replay is None else (self.replay, "as the recipe says")
        line = f"replay     {share:.0%} of every batch is old text: {why}"
        return (pack(old, context, seed=self.seed, by_source=False) if share else None), share, [line]

    def _shown(self, model: CausalLM, corpus: Corpus, items: Rows, secret: Secret) -> tuple[Rows, str]:
        """Demonstrations as blocks, without those of questions that are held out, and what became of them."""
        rows = demonstrations(corpus, items)
        open_, fits = self._usable(model, corpus, rows, secret)
        rows = rows.where(open_ & fits)
        found = int((rows["item"] >= 0).sum())
        line = f"shown      {rows.count} demonstrations, {found} of them of these questions"
        return rows, line + _left_out(open_, fits)

    def _pairs(self, u: Update, digest: str, sides: Tensor, items: Rows, secret: Secret) -> tuple[Rows, str]:
        """Pairs of answers as blocks, without those to questions that are held out, and what became of them."""
        corpus = Corpus.open(u.line.corpus(digest), u.line.file, verify=False)
        rows = demonstrations(corpus, items)
        open_, fits = (mask[sides].all(1) for mask in self._usable(u.model, corpus, rows, secret))
        pairs = paired(rows, sides[open_ & fits])
        return pairs, f"preferred  {pairs.count} pairs of answers" + _left_out(open_, fits)

    def _usable(self, model: CausalLM, corpus: Corpus, rows: Rows, secret: Secret) -> tuple[Tensor, Tensor]:
        """Of each document, whether it answers no question that is held out and holds little of any, and whether it
        fits in the context."""
        lengths = corpus.lengths.tolist()
        fits = torch.tensor([model.context is None or n <= model.context for n in lengths])
        whole = torch.cat([rows["input_ids"][:, :1], rows["targets"]], 1)
        texts = [ids[:n] for ids, n in zip(whole.tolist(), lengths, strict=True)]
        apart = torch.from_numpy(held(texts, secret.words) <= self.overlap)
        return apart & torch.tensor([secret.begins.isdisjoint(_begins(rows, r)) for r in range(rows.count)]), fits

    def _rate(self, model: CausalLM) -> tuple[float, str]:
        if self.lr is not None:
            return self.lr, "as the recipe says"
        size = sum(t.numel() for t in model.state().values())
        slope = math.log(LARGE_LR / SMALL_LR) / math.log(LARGE / SMALL)
        lr = SMALL_LR * (size / SMALL) ** slope
        return float(f"{lr:.2g}"), f"by the model's size, {size:,} weights (1e-3 at 0.1M, 1e-6 at 7B)"


def _left_out(open_: Tensor, fits: Tensor) -> str:
    left = [f"{int((~open_).sum())} of questions that are held out"] if not bool(open_.all()) else []
    left += [f"{int((~fits).sum())} longer than the context"] if not bool(fits.all()) else []
    return f"; left out: {', '.join(left)}" if left else ""


class OnLine:
    """A repair's calls as calls of an update, which are kept and resumed; `read`: the feeds that it learned from."""

    def __init__(self, u: Update, lines: list[str]) -> None:
        self.u, self.lines = u, lines
        self.read: set[str] = set()
        self.curve: list[dict[str, float]] = []
        self.seen: dict[str, Tensor] = {}
        self.tokens = 0
        self.steps = 0

    def fit(
        self, model: CausalLM, plan: Plan, data: Mapping[str, Rows], training: Training, others: Mapping[str, Model]
    ) -> Fitted:
        self.u.listener.plan(training.steps, None)
        self.read |= {feed.name for feed in plan.feeds}
        other = None if model is self.u.model else model
        found = self.u.fit(plan, data, training, others=others, model=other)
        self.curve += [{**r, "step": r["step"] + self.steps, "tokens": r["tokens"] + self.tokens} for r in found.curve]
        self.steps += training.steps
        self.tokens += found.tokens
        for name, seen in found.seen.items():
            mine = self.seen.get(name, torch.zeros(0, dtype=torch.bool))
            longest = max(len(mine), len(seen))
            self.seen[name] = _grown(mine, longest) | _grown(seen, longest)
        return found

    def keep(self, what: Mapping[str, Any], make: Any) -> Any:
        self.u.listener.stage("writing answers")
        return self.u.keep(what, make)

    def note(self, text: str) -> None:
        self.lines.append(text)
        self.u.listener.notice(text)


def _grown(seen: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(seen, (0, size - len(seen)))


def demonstrations(corpus: Corpus, items: Rows) -> Rows:
    """The documents of a corpus as blocks, of which the supervised tokens are learned: `row`, the place of each in the
    corpus, and `item`, the `row` of the question that its last turns answer; -1: of none of these."""
    lengths = corpus.lengths
    starts = np.repeat(corpus.starts, lengths)
    places = starts + np.arange(len(starts)) - np.repeat(lengths.cumsum() - lengths, lengths)
    tokens = torch.from_numpy(corpus.read(places))
    counted = torch.from_numpy(corpus.read_supervised(places)) if corpus.supervised else torch.ones(len(tokens)).bool()
    ends = lengths.cumsum().tolist()
    whole = [tokens[a:b].tolist() for a, b in zip([0, *ends], ends, strict=False)]
    blocks = answer_blocks(Padded.of([ids[:1] for ids in whole]), Padded.of([ids[1:] for ids in whole]))
    learned = torch.zeros_like(blocks["counts"])
    at = [counted[a + 1 : b] for a, b in zip([0, *ends], ends, strict=False)]
    for row, own in enumerate(at):
        learned[row, : len(own)] = own
    rows = blocks.having(counts=learned, row=torch.arange(len(whole)))
    known = {tuple(ids): int(row) for ids, row in zip(items["prompt_ids"], items["row"], strict=True)}
    answers = [[known[ids] for ids in _begins(rows, r) if ids in known] for r in range(rows.count)]
    return rows.having(item=torch.tensor([found[-1] if found else -1 for found in answers]))


def _begins(rows: Rows, row: int) -> list[tuple[int, ...]]:
    """The tokens before each stretch that is learned: what each turn of the model answers."""
    learned = rows["counts"][row] > 0
    first = learned & ~torch.cat([learned.new_zeros(1), learned[:-1]])
    ids = rows["input_ids"][row].tolist()
    return [tuple(ids[: at + 1]) for at in first.nonzero()[:, 0].tolist()]


def _asked_ids(model: CausalLM, items: Sequence[Item], how: Answering) -> set[tuple[int, ...]]:
    """How each of these questions begins, in tokens."""
    if not items:
        return set()
    rows, _ = asked(model, Items("held out", tuple(items)), tokens=1, chat=how.chat)
    return {tuple(ids) for ids in rows["prompt_ids"]}


def _used(u: Update, corpus: Corpus, seen: Tensor) -> CorpusUse:
    """The documents of the new text that were learned from."""
    [manifest] = corpus.manifests
    mask = np.zeros(manifest["documents"], dtype=bool)
    mask[corpus.places[_grown(seen, corpus.documents).numpy()]] = True
    return CorpusUse(corpus.digests[0], NEW, u.line.put_tensor(torch.from_numpy(np.packbits(mask))))

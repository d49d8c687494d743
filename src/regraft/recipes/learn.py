"""Learn new text and keep the old: re-warm or go on, replay some of what the model was trained on, measure both sides.

    total tokens = epochs · new tokens;   share r of every batch is old text, 1 - r new: the total does not change

With nothing said, the share follows the shift between the texts as the model feels it (its loss on the new held-out
documents less that on the old text which it knows best): 5% for a weak one, 25% for a strong one. The peak of the
learning rate is that of the line's last update, or by the model's size. One pass over the new text; up to four where
one would give too few steps.

Paper:   "Simple and Scalable Strategies to Continually Pre-train Large Language Models" Ibrahim et al. 2024.
         https://arxiv.org/abs/2403.08763
Paper:   "Continual Pre-Training of Large Language Models: How to (re)warm your model?" Gupta et al. 2023.
         https://arxiv.org/abs/2308.04014
Claim:   re-warming with replay comes within 2% of training from scratch on the union, at no more than half of its
         tokens.
Needs:   new text; the line's own past or texts to keep, if there is to be replay.
Differs: the paper chooses the share by hand; the peak by size is Kaplan et al. 2020 (arXiv:2001.08361, equation D.1);
         up to four passes follow Muennighoff et al. 2023 (arXiv:2305.16264).
Tags:    continual pre-training, replay
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from regraft.core.errors import RegraftError, nearest
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.corpus import Corpus
from regraft.data.pack import Blocks, pack
from regraft.engine.training import Training, optimizer_class
from regraft.evidence.items import Items
from regraft.evidence.readings import Reading
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.replay import replay as replay_sampler
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes import texts
from regraft.recipes.resolve import described, part
from regraft.recipes.sources import NEW, OLD, Sources, check_context
from regraft.recipes.update import TRUNK, Update
from regraft.store import CorpusUse, Version

WEAK_SHARE, STRONG_SHARE, STRONG_SHIFT = 0.05, 0.25, 0.5
FEWEST_STEPS, MOST_EPOCHS, AIMED_STEPS = 200, 4, 500
OPTIMIZER_KNOBS = {"betas": (0.9, 0.95), "weight_decay": 0.1}
MOST_BATCH_TOKENS, MOST_TOKENS = 1 << 19, 1 << 50


def one_part(kind: str) -> BeforeValidator:
    return BeforeValidator(
        lambda said: part(kind, said, where=kind), json_schema_input_type=str | dict[str, dict[str, Any]]
    )


def parts(kind: str) -> BeforeValidator:
    def read(said: Any) -> list[Any]:
        return [part(kind, each, where=kind) for each in (said if isinstance(said, list | tuple) else [said])]

    return BeforeValidator(read, json_schema_input_type=str | list[str | dict[str, dict[str, Any]]])


class learn(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    replay: Annotated[float | None, Field(ge=0, lt=1, description="share of old text in every batch")] = None
    schedule: Annotated[Any, one_part("schedules"), Field(description="learning-rate schedule")] = "rewarm"
    lr: Annotated[float | None, Field(gt=0, description="peak learning rate")] = None
    epochs: Annotated[float | None, Field(gt=0, le=1e6, description="total tokens over new tokens")] = None
    tokens: Annotated[int | None, Field(gt=0, le=MOST_TOKENS, description="total tokens; wins over epochs")] = None
    batch_tokens: Annotated[int | None, Field(gt=0, le=MOST_TOKENS, description="tokens of one optimizer step")] = None
    micro_tokens: Annotated[int, Field(gt=0, le=MOST_TOKENS, description="tokens of one forward pass")] = 8192
    context: Annotated[int | None, Field(gt=1, description="tokens of a block")] = None
    shares: Annotated[dict[str, float] | None, Field(description="shares of the new text's sources")] = None
    sampler: Annotated[Any, one_part("samplers"), Field(description="what draws the new text")] = "shuffled"
    gradients: Annotated[list[Any], parts("gradients"), Field(description="gradient transforms, in order")] = []
    optimizer: Annotated[str, Field(description="a class of torch.optim")] = "AdamW"
    optimizer_knobs: Annotated[
        dict[str, Any] | None, Field(description="its arguments; none: betas 0.9, 0.95 and decay 0.1, as it takes them")
    ] = None
    clip: Annotated[float | None, Field(gt=0)] = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    monitor_every: Annotated[int | None, Field(gt=0, description="steps between measurements of both losses")] = None

    @model_validator(mode="after")
    def _check_optimizer(self) -> learn:
        optimizer_class(self.optimizer, self._optimizer_knobs)
        return self

    @property
    def _optimizer_knobs(self) -> dict[str, Any]:
        if self.optimizer_knobs is None:
            taken = inspect.signature(optimizer_class(self.optimizer, {})).parameters
            return {name: value for name, value in OPTIMIZER_KNOBS.items() if name in taken}
        return {k: tuple(v) if isinstance(v, list) else v for k, v in self.optimizer_knobs.items()}

    def check(self, context: int | None, new: Corpus) -> None:
        """Raises RegraftError for what cannot be done with a model of this context and with this new text."""
        check_context(self.context, context)
        if self.shares is not None:
            _checked(self.shares, new)

    def __call__(self, u: Update, sources: Sources, *, plan_only: bool = False) -> Version | None:
        context = check_context(self.context, u.model.context)
        suites = sources.suites(context)
        before = u.measure("before", suites)
        chosen = self.choose(u, sources, before, context)
        u.listener.notice("\n".join(chosen.lines))
        rows = {name: blocks.rows for name, blocks in chosen.blocks.items()}
        u.rehearse(chosen.plan, rows, chosen.training)
        if plan_only:
            return None
        fitted = u.fit(
            chosen.plan,
            rows,
            chosen.training,
            from_trunk=chosen.from_trunk,
            monitors=chosen.monitors,
            monitor_every=chosen.monitor_every,
        )
        u.settle()
        after = u.measure("after", suites)
        used = [CorpusUse(text.digest, "kept") for text in sources.kept]
        for name, seen in fitted.seen.items():
            used += texts.uses(u.line, "replay" if name == OLD else "new", chosen.blocks[name], seen)
        return u.commit(
            sources.message,
            evidence={"curve": fitted.curve, "tokens": fitted.tokens, "why": chosen.lines},
            readings={"before": before, "after": after},
            questions=[suite for suite in suites.values() if isinstance(suite, Items)],
            corpora=used,
            fitted=fitted,
            record={"recipe": "learn", "knobs": described(dict(self)), "lr": chosen.training.lr, "context": context},
            details={"skipped": dict(sources.skipped)},
        )

    def choose(self, u: Update, sources: Sources, before: Mapping[str, Reading], context: int) -> Chosen:
        """Everything that was not said, and why."""
        lines = []
        old = sources.old()
        share, why = self._share(sources, before, old is not None)
        lines.append(f"replay     {share:.0%} of every batch is old text: {why}")
        parts = {_feed(name): part for name, part in self._drawn_from(sources).items()}
        packed = {n: corpus for n, (corpus, _) in parts.items()} | ({OLD: old} if share and old is not None else {})
        # Blocks of one source each cost padding: only for samplers that may look at sources.
        by_source = not isinstance(self.sampler, shuffled)
        blocks = {n: pack(corpus, context, seed=self.seed, by_source=by_source) for n, corpus in packed.items()}
        feeds = tuple(
            Feed(n, replace(self.sampler, source=n), None if own is None else own * (1 - share))
            for n, (_, own) in parts.items()
        )
        if OLD in blocks:
            feeds += (Feed(OLD, replay_sampler(source=OLD), share),)
        new_tokens = sources.new.train.tokens
        asked, why = self._tokens(new_tokens)
        batch = max(1, min(self._batch_tokens(asked), asked) // context)
        steps = max(1, round(asked / (batch * context)))
        total = steps * batch * context
        why += f"; {asked:,} in whole batches" if abs(total - asked) > 0.01 * asked else ""
        lines.append(f"tokens     {total:,} in all, of which {round(total * (1 - share)):,} new: {why}")
        lr, why = self._peak(u)
        lines.append(f"rate       {self.schedule}, peak {lr:g}: {why}")
        lines.append(f"steps      {steps} of {batch} blocks of {context} tokens")
        plan = Plan(
            feeds=feeds,
            losses=(Weighted(nll()),),
            gradients=tuple(self.gradients),
            lr=self.schedule,
        )
        training = Training(
            steps=steps,
            batch=batch,
            lr=lr,
            micro_batch=max(1, self.micro_tokens // context),
            optimizer=self.optimizer,
            knobs=self._optimizer_knobs,
            decay_vectors=False,
            clip=self.clip,
            precision=self.precision,
            compile=self.compile,
            seed=self.seed,
            log_every=max(1, steps // 100),
        )
        from_trunk = TRUNK in u.base.bundles and u.memory.get("trunk", {}).get("schedule") in described(self.schedule)
        every = self.monitor_every or max(1, steps // 25)
        monitors = _monitors(sources.held(), context, total * every // steps)
        return Chosen(plan, training, blocks, from_trunk, monitors, every, lines)

    def _drawn_from(self, sources: Sources) -> dict[str, tuple[Corpus, float | None]]:
        """What the new text is drawn from, by feed: documents, and their share of the new text where it is given."""
        new, where = sources.new.train, sources.names[sources.new.digest]
        if not new.tokens:
            do = "Give more documents, or others than those that are measured on"
            raise RegraftError("every document is held out to be measured, none is left to learn", where=where, do=do)
        if not (new.weight > 0).any():
            raise RegraftError("every document weighs 0, so nothing would be learned", where=where)
        if self.shares is None:
            return {NEW: (new, None)}
        shares, parts = _checked(self.shares, new), texts.by_source(new)
        if absent := [name for name, share in shares.items() if share and name not in parts]:
            some = ", ".join(map(repr, absent[:8])) + (", …" if len(absent) > 8 else "")
            what = f"every document of {len(absent)} sources is held out to be measured: {some}"
            raise RegraftError(what, where="shares", do="Give 0 to them, or more documents")
        return {name: (corpus, shares[name]) for name, corpus in parts.items() if shares[name]}

    def _share(self, sources: Sources, before: Mapping[str, Reading], known: bool) -> tuple[float, str]:
        if not known:
            return 0.0, "there is no old text to replay; what the model knew is not protected"
        if self.replay is not None:
            return self.replay, "as the recipe says"
        loss = {name: r.mean for name, r in before.items() if r.lower_is_better}
        new = loss.pop(sources.names[sources.new.digest], None)
        if new is None or not loss:
            return WEAK_SHARE, "too little text is held out to measure the shift"
        shift = new - min(loss.values())
        strong = shift > STRONG_SHIFT
        share, word = (STRONG_SHARE, "strong") if strong else (WEAK_SHARE, "weak")
        return share, f"a {word} shift, {shift:+.2f} nats/token from the best known to new (strong: {STRONG_SHIFT})"

    def _tokens(self, new: int) -> tuple[int, str]:
        if self.tokens is not None:
            return self.tokens, "as the recipe says"
        if self.epochs is not None:
            return max(1, round(self.epochs * new)), f"{self.epochs:g} times the new text, as the recipe says"
        aimed = FEWEST_STEPS * (self.batch_tokens or 4096)
        passes = min(MOST_EPOCHS, max(1, math.ceil(aimed / new)))
        return (
            passes * new,
            "as many as the new text has" if passes == 1 else f"{passes} passes, since one would give too few steps",
        )

    def _batch_tokens(self, total: int) -> int:
        if self.batch_tokens is not None:
            return self.batch_tokens
        return min(MOST_BATCH_TOKENS, 1 << max(11, (total // AIMED_STEPS).bit_length() - 1))

    def _peak(self, u: Update) -> tuple[float, str]:
        if self.lr is not None:
            return self.lr, "as the recipe says"
        record = u.base.record if isinstance(u.base.record, dict) else {}
        if "lr" in record:
            return float(record["lr"]), "that of the line's last update"
        size = sum(t.numel() for t in u.model.state().values())
        return max(1e-5, 0.003239 - 0.0001395 * math.log(size)), f"by the model's size, {size:,} weights"


@dataclass(frozen=True)
class Chosen:
    """What an update will do.

    Attributes:
        blocks: the rows of each feed, by its name.
        from_trunk: whether it goes on from before the last annealing.
        monitors: held-out rows of both sides, for the curve.
        lines: what was chosen, and why, for people.
    """

    plan: Plan
    training: Training
    blocks: Mapping[str, Blocks]
    from_trunk: bool
    monitors: Mapping[str, Rows]
    monitor_every: int
    lines: list[str]


def _feed(source: str) -> str:
    """The name of a source's feed: one that is called like the old text's has another."""
    return f"{source} (new)" if source == OLD else source


def _monitors(held: Mapping[str, Corpus], context: int, tokens: int) -> dict[str, Rows]:
    """Held-out blocks of each side, so few that measuring them every `tokens` tokens adds a tenth to the training.

    A forward pass costs a third of a step's.
    """
    most = max(8, 3 * tokens // (10 * context * max(1, len(held))))
    rows = {side: pack(corpus, context, seed=0, by_source=False).rows for side, corpus in held.items()}
    return {side: table.take(slice(0, most)) for side, table in rows.items()}


def _checked(shares: Mapping[str, float], new: Corpus) -> Mapping[str, float]:
    """Shares of the new text's sources: known names, adding up to 1."""
    for name in shares:
        if name not in new.sources:
            some = ", ".join(new.sources[:8]) + (", …" if len(new.sources) > 8 else "")
            raise RegraftError(
                f"no source {name!r}{nearest(name, new.sources)}", where="shares", do=f"There are {some}"
            )
    if missing := sorted(set(new.sources) - set(shares)):
        raise RegraftError(f"no share for the sources {missing}", where="shares", do="Give 0 to leave one out")
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        raise RegraftError(f"the shares add up to {sum(shares.values()):g}, not to 1: {dict(shares)}", where="shares")
    return shares

"""Study how to re-warm: short forks of a model on its new text, over the length of the rise and the height of the peak.

    lengths     warm-up in {0, 0.5, 1, 2}% of the tokens       at the height 1
    heights     peak in {0.5, 1, 2} × the usual one            at `warmup`
    floor       constant at floor × the usual peak             no re-warming

Every fork begins from the same weights, reads the same rows and spends the same tokens; the line is left as it is. Of
each come the final losses on old and new text, how far each rose at first (the spike), and how many tokens it took to
come back. Short forks forecast the order of long ones, not their losses.

Paper:   "Continual Pre-Training of Large Language Models: How to (re)warm your model?" Gupta et al. 2023. https://arxiv.org/abs/2308.04014
Claim:   the length hardly matters; a higher peak learns the new better and keeps the old worse; the loss rises at first
         even on the same text.
Needs:   new text; text that the model knows, for the old side.
Differs: the paper also varies the checkpoint to begin from, which a line does not keep.
Tags:    continual pre-training, learning rate, diagnostic
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from regraft.core.errors import Diverged, RegraftError
from regraft.engine.fit import Fitted
from regraft.evidence.suites import HeldOut
from regraft.parts.metrics.stability_gap import gaps
from regraft.parts.schedules.constant import constant
from regraft.parts.schedules.rewarm import rewarm
from regraft.recipes.learn import learn
from regraft.recipes.sources import NEW, OLD, Sources, check_context
from regraft.recipes.update import Update

SHORT_TOKENS = 200 * 4096
MEASUREMENTS = 40


class rewarming(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    warmups: Annotated[tuple[float, ...], Field(description="lengths of the rise, shares of all")] = (
        0.0,
        0.005,
        0.01,
        0.02,
    )
    heights: Annotated[tuple[float, ...], Field(description="peaks, in multiples of the usual one")] = (0.5, 1.0, 2.0)
    warmup: Annotated[float, Field(ge=0, lt=1, description="length of the rise where the heights are compared")] = 0.01
    floor: Annotated[float, Field(gt=0, le=1, description="where the decay ends; the rate without re-warming")] = 0.1
    tokens: Annotated[int | None, Field(gt=0, description="tokens of each fork")] = None
    replay: Annotated[float | None, Field(ge=0, lt=1, description="share of old text in every batch")] = None
    lr: Annotated[float | None, Field(gt=0, description="the usual peak: height 1")] = None
    batch_tokens: Annotated[int | None, Field(gt=0, description="tokens of one optimizer step")] = None
    context: Annotated[int | None, Field(gt=1, description="tokens of a block")] = None
    seed: int = 0

    @field_validator("warmups")
    @classmethod
    def _are_shares(cls, lengths: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= length < 1 for length in lengths):
            raise ValueError("each must be at least 0 and under 1")
        return lengths

    @field_validator("heights")
    @classmethod
    def _are_rates(cls, heights: tuple[float, ...]) -> tuple[float, ...]:
        if not all(height > 0 for height in heights):
            raise ValueError("each must be over 0")
        return heights

    def __call__(self, u: Update, sources: Sources) -> Study:
        """Runs the forks, one after the other; `u` ends with the model and the memory that it began with.

        Raises:
            RegraftError: the new text is too small to hold any of it out, so that forks could not be compared.
            Diverged: a fork did, at the height that it names.
        """
        context = check_context(self.context, u.model.context)
        held = sources.held()
        if NEW not in held:
            raise RegraftError("too little new text to hold any out", where=sources.new.name, do="Give more of it")
        suites = {n: s for n, s in sources.suites(context).items() if isinstance(s, HeldOut)}
        chosen = self._usual(sources).choose(u, sources, u.measure("before", suites), context)
        u.listener.notice("\n".join(line for line in chosen.lines if not line.startswith("rate")))
        rows = {name: blocks.rows for name, blocks in chosen.blocks.items()}
        u.rehearse(chosen.plan, rows, chosen.training, times=len(self.settings()))
        weights, memory = {n: t.clone() for n, t in u.model.state().items()}, u.memory
        forks = []
        for warmup, height in self.settings():
            schedule = constant() if warmup is None else rewarm(warmup=warmup, floor=self.floor)
            training = replace(chosen.training, lr=chosen.training.lr * height)
            u.listener.notice(f"fork       {schedule}, peak {training.lr:g}")
            try:
                fitted = u.fit(
                    replace(chosen.plan, lr=schedule),
                    rows,
                    training,
                    monitors=chosen.monitors,
                    monitor_every=max(1, training.steps // MEASUREMENTS),
                )
            except Diverged as error:
                what = f"the fork at {height:g} times the usual peak, {training.lr:g}: {error.what}"
                raise Diverged(what, do=f"Leave {height:g} out of the heights, or set a lower lr") from None
            old = _side(fitted, OLD) if OLD in held else None
            forks.append(Fork(warmup, height, training.lr, _side(fitted, NEW), old))
            u.model.load(weights)
            u.memory = memory
        return Study(tuple(forks))

    def settings(self) -> list[tuple[float | None, float]]:
        """(warm-up, height) of each fork, none twice; the first goes on at the floor, without re-warming."""
        lengths = [(warmup, 1.0) for warmup in self.warmups]
        heights = [(self.warmup, height) for height in self.heights]
        return list(dict.fromkeys([(None, self.floor), *lengths, *heights]))

    def _usual(self, sources: Sources) -> learn:
        return learn(
            tokens=self.tokens or min(sources.new.train.tokens, SHORT_TOKENS),
            replay=self.replay,
            lr=self.lr,
            batch_tokens=self.batch_tokens,
            context=self.context,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Side:
    """One text in a fork: its final loss in nats per token, the highest rise above the start, and the tokens until the
    loss was back; None: it did not come back."""

    loss: float
    spike: float
    recovery: float | None


@dataclass(frozen=True)
class Fork:
    """One setting and what came of it. `warmup` None: constant, not re-warmed; `old` None: no old text is known."""

    warmup: float | None
    height: float
    lr: float
    new: Side
    old: Side | None


@dataclass(frozen=True)
class Study:
    """The forks in the order they were run."""

    forks: tuple[Fork, ...]

    @property
    def spread(self) -> float | None:
        """(highest - lowest) / lowest final new loss over the lengths at height 1; None with fewer than two."""
        losses = [f.new.loss for f in self.forks if f.warmup is not None and f.height == 1.0]
        return (max(losses) - min(losses)) / min(losses) if len(losses) > 1 else None

    def best(self) -> Fork:
        """The fork that ends at the lowest mean of both sides' losses, or new loss where only that is known."""
        return min(self.forks, key=lambda f: f.new.loss + (f.old.loss if f.old else 0.0))

    def to_json(self) -> dict[str, Any]:
        return {"forks": [asdict(f) for f in self.forks], "spread": self.spread}


def _side(fitted: Fitted, side: str) -> Side:
    [gap] = gaps(fitted.curve, of=(side,), over="tokens").values()
    return Side(fitted.curve[-1][f"held/{side}"], gap.depth, gap.recovery)

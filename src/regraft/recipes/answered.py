"""Questions that a model answers in its own words, and a checker that says which answers are right."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, Transform
from regraft.evidence.items import Items, digest, preview
from regraft.evidence.readings import CORRECT, Reading
from regraft.models.causal import CausalLM
from regraft.numerics.sampling import Sampling
from regraft.numerics.tally import MOST_FAULTS, faults
from regraft.numerics.trying import Asking, tried
from regraft.parts.transforms.verified import verified
from regraft.recipes.questions import asked
from regraft.recipes.texts import cache_folder
from regraft.store.files import replace_whole

MOST_TOKENS = 256


@dataclass(frozen=True)
class Answering:
    """How questions are asked, and how answers are checked.

    Attributes:
        by: exact, number, or own: by `checker`. marker: see `verified`.
        checker: the source of a Python file that defines `reward(written, item)`.
        tokens: of an answer at most; none: 256, or what half the model's context has room for.
        copies: answers to each question. stop: texts that end one.
        chat: prompts are a user's turn, put through the model's chat template.
    """

    by: str = "exact"
    checker: str | None = None
    marker: str | None = None
    tokens: int | None = None
    copies: int = 8
    temperature: float = 1.0
    stop: tuple[str, ...] = ()
    chat: bool = False

    @classmethod
    def of(cls, by: str, **knobs: Any) -> Self:
        """`by` may be the path of a Python file, which is read now: what it says later does not matter."""
        if not by.endswith(".py"):
            if by not in ("exact", "number"):
                raise RegraftError(f"{by!r} is neither exact nor number nor the path of a .py file", where="--by")
            return cls(by, **knobs)
        try:
            return cls("own", Path(by).read_text(encoding="utf-8"), **knobs)
        except (OSError, UnicodeDecodeError) as error:
            raise RegraftError(f"cannot be read: {error}", where=by, do="Give a Python file with a `reward`") from None

    def judge(self, jobs: int = 1) -> Transform:
        """Gives answers a reward; `jobs`: checkers of one's own that run at once."""
        if self.checker is None:
            return verified(by=self.by, marker=self.marker)
        path = cache_folder() / "checkers" / f"{hashlib.sha256(self.checker.encode()).hexdigest()}.py"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_whole(path, [self.checker.encode()])
        return verified(by=str(path), jobs=jobs)

    def asking(self, model: CausalLM) -> Asking:
        tokens = self.tokens or min(MOST_TOKENS, max(1, (model.context or 2 * MOST_TOKENS) // 2))
        return Asking(self.copies, tokens, Sampling(self.temperature), self.stop)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Self:
        return cls(**{**said, "stop": tuple(said["stop"])})


@dataclass(frozen=True)
class Answered(Items):
    """Questions that are answered in words: right where the checker gives the likeliest answer a reward of 1 or more.
    The continuous companion is the share of `copies` drawn answers that are right."""

    how: Answering = Answering()

    @cached_property
    def fingerprint(self) -> str:
        items = sorted([i.id, i.prompt, i.choices, i.answer] for i in self.items)
        return digest(["answered", self.how.to_json(), items])

    def measure(self, model: CausalLM, *, batch_tokens: int | None = None) -> Reading:
        asking, judge = self.how.asking(model), self.how.judge()
        rows, _ = asked(model, self, tokens=asking.tokens, chat=self.how.chat)
        ctx = still(model, torch.Generator().manual_seed(0))
        ways = (asking._replace(copies=1, how=Sampling(0.0)), asking)
        answers = [tried(model, rows, judge, each, ctx) for each in ways]
        right, drawn = (each.right.double().numpy() / each.copies for each in answers)
        of = {item.id: item for item in self.items}
        items = [of[i] for i in rows["id"]]
        return Reading(
            suite=self.name,
            fingerprint=self.fingerprint,
            unit=CORRECT,
            lower_is_better=False,
            ids=tuple(item.id for item in items),
            values=right,
            weights=np.ones(len(items)),
            tags=tuple(item.tags for item in items),
            continuous=drawn,
            texts=tuple(preview(item) for item in items),
            faults=dict(sum((faults(each.rows) for each in answers), Counter()).most_common(MOST_FAULTS)),
        )


def still(model: CausalLM, dice: torch.Generator) -> Context:
    """What a transform is called with where nothing is trained."""

    def nobody(*_: object) -> Any:
        raise RegraftError("nothing is trained here")

    return Context({"student": model}, {}, {}, dice, lambda: Progress(0, 1), nobody, nobody, nobody)

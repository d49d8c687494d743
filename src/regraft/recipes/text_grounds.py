"""Grounds of one's own text for a language model, as a recipe file of `regraft bench continual` says them.

grounds:
  tickets:
    judged: {train: tickets.jsonl, by: domain}                          # each value of `domain` is a domain
    tuning: {train: {law: law.jsonl, mail: [may.txt, june.txt]}}        # or the files of each
    network: {causal: FOLDER}                                           # or {llama: {width: 64}}
    context: 128
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from regraft.recipes.course import Count, Course, Positive, check_streams
from regraft.recipes.files import Said

Files: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Each domain with its files."""


def _texts(said: Any) -> str | Files:
    if isinstance(said, str):
        return said
    files = {k: [v] if isinstance(v, str) else v for k, v in said.items()} if isinstance(said, dict) else {}
    if not files or not all(isinstance(v, list) and v and all(isinstance(f, str) for f in v) for v in files.values()):
        raise ValueError(f"must be a file, or the files of each domain: {{law: law.jsonl}}, not {said!r}")
    return tuple((str(name), tuple(each)) for name, each in files.items())


def as_files(texts: str | Files) -> Files:
    return (("", (texts,)),) if isinstance(texts, str) else texts


Texts = Annotated[str | Files, PlainValidator(_texts)]


class TextStreamFile(Course):
    """A stream of domains of text, one task each.

    Attributes:
        train, test: a table, each value of whose column `by` is a domain (ascending), with texts in its column `text`;
            or the files of each domain, in order, read as `data.read` reads them. Without `test` a fifth of each
            domain's documents is held out, by seed. What is held out is not learned, whatever domain it comes with.
        rows: of each domain to learn, at most; a row is one context of tokens. None: all.
    """

    train: Texts
    test: Texts | None = None
    by: str | None = None
    text: str = "text"
    rows: Count | None = None

    @model_validator(mode="after")
    def _one_way(self) -> TextStreamFile:
        if isinstance(self.train, str) and self.by is None:
            raise ValueError("a stream of one file says `by`: the column whose values are its domains")
        if not isinstance(self.train, str) and self.by is not None:
            raise ValueError("a stream says `by` or the files of each domain, one of them")
        if self.test is not None and isinstance(self.test, str) != isinstance(self.train, str):
            raise ValueError("`test` is said as `train` is: one file, or the files of each domain")
        return self

    @property
    def sources(self) -> list[str]:
        """Every file that is named."""
        named = [texts for texts in (self.train, self.test) if texts is not None]
        return [file for texts in named for _, files in as_files(texts) for file in files]


class LlamaFile(Said):
    """A new Llama, and the tokens of its byte-level BPE."""

    width: Count = 64
    depth: Count = 2
    heads: Count = 4
    vocabulary: Count = 1024

    @model_validator(mode="after")
    def _divides(self) -> LlamaFile:
        if self.width % (2 * self.heads):
            raise ValueError(f"the width {self.width} cannot be dealt out to {self.heads} heads evenly, by twos")
        return self


class LanguageModelFile(Said):
    """One of: a folder or hub name of a causal language model of transformers; a new small Llama."""

    causal: str | None = None
    llama: LlamaFile | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, said: Any) -> Any:
        return {"llama": {}} if said == {"llama": None} else said

    @model_validator(mode="after")
    def _one(self) -> LanguageModelFile:
        if (self.causal is None) == (self.llama is None):
            raise ValueError("a language model is one of `causal`, `llama`")
        return self


class TextGroundFile(Said):
    """One ground of text; it is judged by the held-out loss of each domain, in nats a token.

    Attributes:
        context: tokens of a row. lr: none: 0.003 for a new network, 0.0001 for one of a folder.
    """

    judged: TextStreamFile
    tuning: TextStreamFile | None = None
    network: LanguageModelFile
    context: Annotated[int, Field(ge=2)] = 128
    memory: Count = 200
    epochs: Positive = 1.0
    batch: Count = 16
    lr: Positive | None = None
    optimizer: Literal["SGD", "AdamW"] = "AdamW"

    @model_validator(mode="after")
    def _apart(self) -> TextGroundFile:
        check_streams(self.judged, self.tuning, self.epochs)
        return self

    @property
    def sources(self) -> list[str]:
        """Every file that is named."""
        files = [f for stream in (self.judged, self.tuning) if stream is not None for f in stream.sources]
        return files + ([] if self.network.causal is None else [self.network.causal])


def is_text(said: Any) -> bool:
    """Whether a ground, as a file says it, is one of text for a language model."""
    network = said.get("network") if isinstance(said, dict) else None
    return isinstance(network, dict) and not {"causal", "llama"}.isdisjoint(network)

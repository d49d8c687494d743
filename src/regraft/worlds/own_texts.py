"""Grounds of one's own text: domains one after the other, learned by a language model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.blocks import blocks
from regraft.data.document import BadRow, Document, document_of
from regraft.data.labelled import column_of, table_of
from regraft.data.read import documents
from regraft.data.scenario import Scenario, Task
from regraft.data.tokenise import Encoded, Tokeniser
from regraft.engine.training import Training
from regraft.models.base import not_finite
from regraft.models.causal import CausalLM
from regraft.recipes.adoption import local_folder
from regraft.recipes.comparison import Ground
from regraft.recipes.course import HELD_OUT, counted
from regraft.recipes.files import beside, told
from regraft.recipes.sources import check_context
from regraft.recipes.text_grounds import Files, TextGroundFile, TextStreamFile, as_files
from regraft.store.folder import read_folder
from regraft.worlds import llama

LR_NEW, LR_KNOWN = 3e-3, 1e-4

Domains: TypeAlias = Mapping[str, Sequence[Document]]


def ground_of(path: Path, name: str, said: TextGroundFile) -> Ground:
    """The ground of that name in a recipe file. Data are read once a process."""
    where = f"{path}, ground {name!r}"
    lr = said.lr or (LR_NEW if said.network.llama is not None else LR_KNOWN)
    training = Training(steps=1, batch=said.batch, lr=lr, optimizer=said.optimizer)
    with told(f"{where}, judged"):
        names = list(_read(path.parent, said.judged.train, said.judged.by, said.judged.text))
    with told(f"{where}, network"):
        base = None if said.network.causal is None else _loaded(beside(path.parent, said.network.causal))
        check_context(said.context, None if base is None else base.context)
    what = [counted(len(names), "domain") + f" of text ({', '.join(names)})"]
    what += [] if said.judged.rows is None else [f"at most {counted(said.judged.rows, 'row')} of each"]
    what += [*said.judged.says(), f"{said.context} tokens a row", counted(said.epochs, "epoch")]

    def scenario(stream: TextStreamFile, key: str, seed: int) -> Scenario:
        with told(f"{where}, {key}"):
            return _scenario(path.parent, stream, said, seed)

    def network(tasks: Scenario, seed: int) -> CausalLM:
        return _made(path.parent, said, seed) if base is None else copy.deepcopy(base)

    tuning = said.tuning
    return Ground(
        f"{', '.join(what)}; losses in nats a token",
        lambda seed: scenario(said.judged, "judged", seed),
        None if tuning is None else lambda seed: scenario(tuning, "tuning", seed),
        network,
        training,
        said.epochs,
        said.memory,
        "" if tuning is None else ", ".join(tuning.sources),
    )


def _scenario(home: Path, stream: TextStreamFile, said: TextGroundFile, seed: int) -> Scenario:
    """Each domain one task; what any domain holds out is learned in none."""
    learned = _read(home, stream.train, stream.by, stream.text)
    dice = torch.Generator().manual_seed(seed)
    if stream.test is None:
        held: dict[str, Sequence[Document]] = {name: _part(found, dice) for name, found in learned.items()}
    else:
        held = {**_read(home, stream.test, stream.by, stream.text)}
        if odd := sorted(set(learned).symmetric_difference(held)):
            raise RegraftError(f"domain {odd[0]!r} is not in both of `train` and `test`")
    kept = {document.id for found in held.values() for document in found}
    tasks = []
    for name, found in learned.items():
        mine = [document for document in found if document.id not in kept]
        order = torch.randperm(len(mine), generator=dice).tolist() if stream.boundaries else range(len(mine))
        train = _blocks(home, said, [mine[i] for i in order]).take(slice(stream.rows))
        test = _blocks(home, said, held[name])
        if not all(rows and bool(rows["counts"].any()) for rows in (train, test)):
            has = f"{counted(len(mine), 'document')} to learn and {len(held[name])} to be tested on"
            do = "Give it more documents, or files of its own to be tested on: `test`"
            raise RegraftError(f"domain {name!r} has {has}: too little text", do=do)
        tasks.append(Task.of(name, train, test))
    return stream.of(Scenario("domains", tuple(tasks), better="lower"), seed)


def _part(found: Sequence[Document], dice: torch.Generator) -> list[Document]:
    """The documents of a domain that are held out, each once."""
    distinct = list({document.id: document for document in found}.values())
    order = torch.randperm(len(distinct), generator=dice).tolist()
    share = max(round(HELD_OUT * len(distinct)), 1) if len(distinct) > 1 else 0
    return [distinct[i] for i in order[:share]]


@cache
def _read(home: Path, texts: str | Files, by: str | None, text: str) -> Domains:
    """The documents of each domain."""
    if not isinstance(texts, str):
        files = {name: [beside(home, file) for file in named] for name, named in as_files(texts)}
        return {name: [d for batch in documents(named, source=name) for d in batch] for name, named in files.items()}
    assert by is not None
    source = beside(home, texts)
    table = table_of(source)
    values, rows = column_of(table, by, source), column_of(table, text, source)
    found: dict[Any, list[Document]] = {value: [] for value in sorted(set(values), key=lambda v: (str(type(v)), v))}
    for i, (value, row) in enumerate(zip(values, rows, strict=True)):
        try:
            found[value].append(document_of({"text": row}, "text", str(value), 0, i + 1))
        except BadRow as problem:
            raise RegraftError(str(problem), where=f"{source}, row {i + 1}") from None
    return {str(value): its for value, its in found.items()}


def _blocks(home: Path, said: TextGroundFile, found: Sequence[Document]) -> Rows:
    tokens = _tokens(home, said)
    return blocks([tokens[d.id] for d in found], said.context, [d.weight for d in found])


@cache
def _tokens(home: Path, said: TextGroundFile) -> Mapping[bytes, Encoded]:
    """Every document of the ground as tokens, by its id."""
    tokeniser = Tokeniser(_tokenizer(home, said))
    found = {d.id: d for stream in _streams(said) for d in _documents(home, stream, tests=True)}
    tokens = dict(zip(found, tokeniser.encode(list(found.values())), strict=True))
    for name, each in tokens.items():
        if isinstance(each, BadRow):
            raise RegraftError(str(each), where=f"{found[name].source}, line {found[name].line}")
    return {name: each for name, each in tokens.items() if isinstance(each, Encoded)}


def _tokenizer(home: Path, said: TextGroundFile) -> Any:
    if said.network.causal is None:
        return _bpe(home, said)
    tokenizer = _loaded(beside(home, said.network.causal)).tokenizer
    if tokenizer is None:
        raise RegraftError("the folder has no tokenizer", where=said.network.causal, do="Give one with tokenizer.json")
    return tokenizer


@cache
def _bpe(home: Path, said: TextGroundFile) -> Any:
    """A tokenizer of what is tuned on; without that, of what is learned."""
    assert said.network.llama is not None
    texts = ("\n".join(map(str, d.content.fields().values())) for d in _documents(home, _streams(said)[-1]))
    return llama.bpe(texts, said.network.llama.vocabulary)


def _made(home: Path, said: TextGroundFile, seed: int) -> CausalLM:
    how = said.network.llama
    assert how is not None
    shape = {"width": how.width, "depth": how.depth, "heads": how.heads, "context": said.context}
    return llama.llama(_bpe(home, said), **shape, seed=seed)


@cache
def _loaded(name: str) -> CausalLM:
    """The model of a folder or hub name. Raises RegraftError for one that cannot learn blocks of text."""
    files, tensors = read_folder(local_folder(name))
    weights = dict(tensors)
    if broken := not_finite(weights):
        raise RegraftError(f"tensor {broken!r} has values that are not finite numbers", where=name)
    model = CausalLM.from_files({file: path.read_bytes() for file, path in files.items()}, weights)
    model.check_packing()
    return model


def _streams(said: TextGroundFile) -> list[TextStreamFile]:
    return [stream for stream in (said.judged, said.tuning) if stream is not None]


def _documents(home: Path, stream: TextStreamFile, *, tests: bool = False) -> Iterator[Document]:
    for texts in (stream.train, stream.test) if tests else (stream.train,):
        if texts is not None:
            for found in _read(home, texts, stream.by, stream.text).values():
                yield from found

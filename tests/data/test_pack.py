"""Packing: against a naive reference, and against each document read alone by a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows, Shared
from regraft.data.corpus import Corpus, build_corpus, concat
from regraft.data.pack import Blocks, pack
from regraft.data.read import documents

COLUMNS = ("input_ids", "positions", "targets", "counts", "source")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, w1 to w49; 0 is the end of text."""
    backend = Tokenizer(models.WordLevel({"<eos>": 0} | {f"w{n}": n for n in range(1, 50)}, unk_token="<eos>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def words(dice: np.random.Generator, count: int) -> str:
    return " ".join(f"w{n}" for n in dice.integers(1, 50, count))


def corpus_of(folder: Path, rows: list[dict[str, Any]], tokenizer: Any, name: str = "a", **knobs: Any) -> Corpus:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_corpus(documents([str(path)]), tokenizer, cache=folder / "cache", **knobs)


def random_corpus(folder: Path, tokenizer: Any, seed: int, *, kind: str = "text", longest: int = 30) -> Corpus:
    dice = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(int(dice.integers(1, 25))):
        content = {"text": words(dice, int(dice.integers(1, longest)))}
        if kind == "completion":
            content = {
                "prompt": words(dice, int(dice.integers(0, 9))),
                "completion": words(dice, int(dice.integers(1, longest))),
            }
        rows.append({**content, "weight": float(dice.integers(0, 3)), "source": f"s{dice.integers(0, 3)}"})
    return corpus_of(folder, rows, tokenizer, f"r{seed}", shard_tokens=int(dice.integers(5, 200)))


def all_rows(blocks: Blocks) -> Rows:
    return blocks.rows.take(slice(None))


def naive(blocks: Blocks, corpus: Corpus, *, drop_last: bool = False) -> dict[str, list[Any]]:
    """The same blocks, one token at a time, given the order of the documents."""
    T = blocks.context
    out: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for source in range(len(corpus.sources)):
        stream = []
        for document in (d for d in blocks._order.tolist() if corpus.source[d] == source):
            places = corpus.starts[document] + np.arange(corpus.lengths[document])
            tokens, learned = corpus.read(places).tolist(), corpus.read_supervised(places).tolist()
            weight = float(corpus.weight[document])
            stream += [
                (t, weight if s else 0.0, i, document) for i, (t, s) in enumerate(zip(tokens, learned, strict=True))
            ]
        for start in range(0, len(stream), T):
            if drop_last and start + T > len(stream):
                continue
            row: dict[str, list[Any]] = {name: [] for name in COLUMNS}
            for at in range(start, start + T):
                here = stream[at] if at < len(stream) else (0, 0.0, 0, -1)
                follows = stream[at + 1] if at + 1 < len(stream) else (0, 0.0, 0, -2)
                count = follows[1] if follows[3] == here[3] else 0.0
                row["input_ids"].append(here[0])
                row["positions"].append(min(here[2], at - start) if here[3] >= 0 else 0)
                row["counts"].append(count)
                row["targets"].append(follows[0] if count else 0)
            for name in COLUMNS[:-1]:
                out[name].append(row[name])
            out["source"].append(source)
    return out


@pytest.mark.parametrize("kind", ["text", "completion"])
@pytest.mark.parametrize("seed", range(12))
def test_packing_is_what_a_naive_loop_does(tmp_path: Path, tokenizer: Any, seed: int, kind: str) -> None:
    corpus = random_corpus(tmp_path, tokenizer, seed, kind=kind)
    for context in (1, 2, 3, 8, 64):
        blocks = pack(corpus, context, seed=seed)
        expected = naive(blocks, corpus)
        found = all_rows(blocks)
        for name in COLUMNS:
            assert found[name].tolist() == expected[name], name
        assert sorted(blocks._order.tolist()) == list(range(corpus.documents))
        index = np.random.default_rng(seed).integers(0, len(blocks), 7)
        some = blocks.rows.take(torch.from_numpy(index))
        assert all(torch.equal(some[name], found[name][index]) for name in COLUMNS)


@pytest.mark.parametrize("seed", range(4))
def test_no_token_is_lost_and_none_is_learned_twice(tmp_path: Path, tokenizer: Any, seed: int) -> None:
    corpus = random_corpus(tmp_path, tokenizer, seed)
    expected = ((corpus.lengths - 1) * corpus.weight).sum()
    for context in (1, 5, 7):
        assert all_rows(pack(corpus, context, seed=0))["counts"].sum() == expected


@pytest.mark.parametrize("seed", range(4))
def test_the_last_block_can_be_dropped(tmp_path: Path, tokenizer: Any, seed: int) -> None:
    corpus = random_corpus(tmp_path, tokenizer, seed, longest=50)
    blocks = pack(corpus, 6, seed=1, drop_last=True)
    expected = naive(pack(corpus, 6, seed=1), corpus, drop_last=True)
    found = all_rows(blocks)
    assert all(found[name].tolist() == expected[name] for name in COLUMNS)


def test_packed_documents_lose_what_they_lose_alone(tmp_path: Path, tokenizer: Any) -> None:
    dice = np.random.default_rng(0)
    corpus = corpus_of(tmp_path, [{"text": words(dice, n)} for n in (1, 2, 7, 9, 3, 30, 4)], tokenizer)
    blocks = pack(corpus, 70, seed=3)
    assert len(blocks) == 1
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    for attention in ("sdpa", "eager"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=50, attn_implementation=attention, **shape)).eval()
        batch = all_rows(blocks)
        with torch.no_grad():
            packed = model(input_ids=batch["input_ids"], position_ids=batch["positions"], use_cache=False).logits
            losses = torch.nn.functional.cross_entropy(packed[0], batch["targets"][0], reduction="none")
            alone = [model(input_ids=torch.from_numpy(corpus.document(d))[None]).logits[0] for d in blocks._order]
        begins = np.cumsum(corpus.lengths[blocks._order]) - corpus.lengths[blocks._order]
        for begin, document, logits in zip(begins.tolist(), blocks._order, alone, strict=True):
            targets = torch.from_numpy(corpus.document(document))[1:]
            expected = torch.nn.functional.cross_entropy(logits[:-1], targets, reduction="none")
            torch.testing.assert_close(losses[begin : begin + len(targets)], expected, atol=1e-5, rtol=0)


def test_order_is_by_seed_and_by_source_alone(tmp_path: Path, tokenizer: Any) -> None:
    dice = np.random.default_rng(0)
    corpus = corpus_of(tmp_path, [{"text": words(dice, 5), "source": f"s{n % 2}"} for n in range(60)], tokenizer)
    first, again, other = (all_rows(pack(corpus, 8, seed=seed))["input_ids"] for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, all_rows(pack(corpus, 8, seed=-4))["input_ids"])
    alone = pack(corpus.select(corpus.source == 1), 8, seed=4)
    both = pack(corpus, 8, seed=4)
    mine = (both.rows["source"] == 1).nonzero()[:, 0]
    assert torch.equal(all_rows(alone)["input_ids"], both.rows.take(mine)["input_ids"])
    state = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    pack(corpus, 8, seed=0)
    assert np.array_equal(state, np.random.get_state()[1])  # type: ignore[index]


def test_sources_together_are_one_source(tmp_path: Path, tokenizer: Any) -> None:
    dice = np.random.default_rng(0)
    rows = [{"text": words(dice, 5), "source": f"s{n}"} for n in range(60)]
    corpus = corpus_of(tmp_path, rows, tokenizer)
    apart, together = pack(corpus, 64, seed=4), pack(corpus, 64, seed=4, by_source=False)
    assert len(apart) == 60
    assert len(together) == -(-corpus.tokens // 64)
    assert "source" not in together.rows
    assert sorted(together._order.tolist()) == list(range(60)) != together._order.tolist()
    expected = naive(together, corpus_of(tmp_path, [{"text": row["text"]} for row in rows], tokenizer))
    found = all_rows(together)
    assert all(found[name].tolist() == expected[name] for name in COLUMNS if name != "source")


def test_documents_of_blocks(tmp_path: Path, tokenizer: Any) -> None:
    corpus = random_corpus(tmp_path, tokenizer, 5)
    blocks = pack(corpus, 7, seed=2)
    touched: list[set[int]] = [set() for _ in range(len(blocks))]
    starts = np.asarray(blocks._starts)
    for rank, document in enumerate(blocks._order.tolist()):
        for place in range(starts[rank], starts[rank] + corpus.lengths[document]):
            touched[place // 7].add(document)
    for index in ([0], [1, 0, 1], list(range(len(blocks)))):
        expected = sorted(set().union(*(touched[i] for i in index)))
        assert blocks.documents_of(np.array(index)).tolist() == expected
        assert blocks.documents_of(torch.tensor(index)).tolist() == expected
    assert blocks.documents_of(torch.tensor([], dtype=torch.long)).tolist() == []


def test_one_document_of_several_blocks(tmp_path: Path, tokenizer: Any) -> None:
    corpus = corpus_of(tmp_path, [{"text": " ".join(f"w{n}" for n in range(1, 8))}], tokenizer)
    rows = all_rows(pack(corpus, 3, seed=0))
    assert rows["input_ids"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]
    assert rows["targets"].tolist() == [[2, 3, 4], [5, 6, 7], [0, 0, 0]]
    assert rows["counts"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]
    assert rows["positions"].tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 0]]
    assert {name: rows[name].dtype for name in COLUMNS} == {
        "input_ids": torch.int64, "positions": torch.int64, "targets": torch.int64,
        "counts": torch.float32, "source": torch.int64,
    }  # fmt: skip


def test_views_pack_what_they_hold(tmp_path: Path, tokenizer: Any) -> None:
    dice = np.random.default_rng(1)
    corpus = corpus_of(tmp_path, [{"text": words(dice, 6)} for _ in range(30)], tokenizer, shard_tokens=20)
    view = corpus.select(np.array([7, 3, 21]))
    blocks = pack(view, 5, seed=0)
    joined = [t for row in all_rows(blocks)["input_ids"].tolist() for t in row][: view.tokens]
    assert joined == [t for d in blocks._order for t in view.document(d).tolist()]
    whole = concat([view, corpus.select(np.array([0]))])
    assert pack(whole, 5, seed=0).corpus.tokens == view.tokens + corpus.lengths[0]


def test_all_columns_come_from_one_pass(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = pack(random_corpus(tmp_path, tokenizer, 3), 4, seed=0)
    reads = []
    read = Corpus.read
    monkeypatch.setattr(Corpus, "read", lambda self, places: reads.append(1) or read(self, places))
    taken = blocks.rows.take([0, 1])
    assert len(reads) == 1
    assert taken.count == 2
    assert torch.equal(Shared(blocks, "targets").gather(torch.tensor([1])), taken["targets"][1:])
    assert blocks.rows.only("targets", "counts").take([0]).count == 1
    assert blocks.rows.take([]).count == 0
    assert blocks.rows["row"].tolist() == list(range(len(blocks)))


def test_what_cannot_be_packed(tmp_path: Path, tokenizer: Any) -> None:
    corpus = corpus_of(tmp_path, [{"text": "w1 w2"}], tokenizer)
    with pytest.raises(RegraftError, match="the context must be at least 1 token, not 0"):
        pack(corpus, 0, seed=0)
    with pytest.raises(RegraftError, match="the corpus has 3 tokens: less than one block of 4"):
        pack(corpus, 4, seed=0, drop_last=True)
    with pytest.raises(RegraftError, match="the corpus has 0 tokens: nothing to pack"):
        pack(corpus.select(np.array([], dtype=np.int64)), 4, seed=0)
    with pytest.raises(IndexError, match="blocks are counted from 0 to 0"):
        pack(corpus, 4, seed=0).rows.take([1])

"""Corpora: what is tokenised and learned, what is cached, and views of them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from regraft.core.errors import DamagedStore, RegraftError
from regraft.data import corpus as corpus_module
from regraft.data.corpus import Corpus, build_corpus, concat
from regraft.data.read import documents
from regraft.data.shards import Draft
from regraft.data.tokenise import Tokeniser, tokenizer_fingerprint

TURNS = [
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "sat"},
    {"role": "user", "content": "again"},
    {"role": "assistant", "content": "on the mat"},
]
UNMARKED = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<eos>{% endgeneration %}{% else %}{{ m.content }}<eos>{% endif %}{% endfor %}"
)


def made_tokenizer(*, post: bool = False, template: str | None = None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<eos>", "<bos>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["the cat sat on the mat again and again"] * 3, trainer)
    if post:
        backend.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 0)]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", bos_token="<bos>")
    made.chat_template = template
    return made


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return made_tokenizer()


def corpus_of(folder: Path, rows: list[Any], tokenizer: Any, name: str = "a", **knobs: Any) -> Corpus:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_corpus(documents([str(path)]), tokenizer, cache=folder / "cache", **knobs)


def spoken(corpus: Corpus, tokenizer: Any, index: int = 0) -> tuple[str, list[str]]:
    """A document's text, and the stretches of it that are learned from."""
    places = corpus.starts[index] + np.arange(corpus.lengths[index])
    tokens, learned = corpus.read(places), corpus.read_supervised(places)
    edges = np.flatnonzero(np.diff(learned.astype(int), prepend=0, append=0)).reshape(-1, 2)
    return tokenizer.decode(tokens), [tokenizer.decode(tokens[begin:end]) for begin, end in edges]


def cached_files(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "cache").rglob("*") if p.is_file() and p.name != "lock")


def test_text_ends_in_one_end_of_text_token(tmp_path: Path, tokenizer: Any) -> None:
    texts = ["the cat", "", "naïve 🙂\r\n", "ends itself<eos>"]
    corpus = corpus_of(tmp_path, [{"text": t} for t in texts if t], tokenizer)
    assert corpus.documents == 3
    assert corpus.tokens == corpus.lengths.sum()
    assert [tokenizer.decode(corpus.document(i)) for i in range(3)] == ["the cat<eos>", "naïve 🙂\r\n<eos>", texts[3]]
    assert not corpus.supervised
    assert corpus.read_supervised(np.arange(3)).all()


def test_a_tokenizer_that_adds_its_own_marks_gets_no_second_ones(tmp_path: Path) -> None:
    own = made_tokenizer(post=True)
    corpus = corpus_of(tmp_path, [{"text": "the cat"}], own)
    assert own.decode(corpus.document(0)) == "<bos>the cat<eos>"
    corpus = corpus_of(tmp_path, [{"prompt": "the", "completion": " cat"}, {"prompt": "", "completion": "mat"}], own)
    assert spoken(corpus, own) == ("<bos>the cat<eos>", [" cat<eos>"])
    assert spoken(corpus, own, 1) == ("<bos>mat<eos>", ["mat<eos>"])


def test_one_token_for_beginning_and_end(tmp_path: Path) -> None:
    first = made_tokenizer()
    first.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", 0)]
    )
    corpus = corpus_of(tmp_path, [{"prompt": "", "completion": "mat"}, {"prompt": "the", "completion": "x"}], first)
    assert spoken(corpus, first) == ("<eos>mat<eos>", ["mat<eos>"])
    assert spoken(corpus, first, 1) == ("<eos>thex<eos>", ["x<eos>"])


def test_everything_that_is_known_of_a_document(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        {"text": "the cat", "weight": 0.5, "source": "x", "tags": ["new", "short"], "id": "r1"},
        {"text": "sat on"},
        {"text": "the cat", "tags": ["short"], "id": "ünï"},
    ]
    corpus = corpus_of(tmp_path, rows, tokenizer)
    assert corpus.sources == ["x", "a"]
    assert corpus.source.tolist() == [0, 1, 1]
    assert corpus.weight.tolist() == [0.5, 1, 1]
    assert corpus.line.tolist() == [1, 2, 3]
    assert corpus.files == [str(tmp_path / "a.jsonl")]
    assert corpus.file.tolist() == [0, 0, 0]
    assert corpus.names == ["r1", None, "ünï"]
    assert corpus.tagged("short").tolist() == [True, False, True]
    first, second, third = corpus.row_ids
    assert first == third != second
    assert len(first) == 32
    with pytest.raises(RegraftError, match="no tag 'old'; the corpus has new, short"):
        corpus.tagged("old")
    view = corpus.select(np.array([2, 0]))
    assert (view.names, view.line.tolist(), view.row_ids) == (["ünï", "r1"], [3, 1], [first, first])
    assert view.tagged("new").tolist() == [False, True]
    assert view.select(np.array([False, True])).names == ["r1"]


def test_many_small_shards_read_as_one_large(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"text": "the cat sat " * (1 + n % 5), "id": n, "tags": [f"t{n % 3}"]} for n in range(50)]
    whole = corpus_of(tmp_path, rows, tokenizer)
    pieces = corpus_of(tmp_path, rows, tokenizer, shard_tokens=40)
    assert len(pieces.manifests[0]["shards"]) > 5 > len(whole.manifests[0]["shards"])
    assert np.array_equal(whole.lengths, pieces.lengths)
    assert np.array_equal(whole.starts, pieces.starts)
    assert whole.row_ids == pieces.row_ids
    assert whole.names == pieces.names
    assert np.array_equal(whole.tagged("t1"), pieces.tagged("t1"))
    places = np.random.default_rng(0).integers(0, whole.tokens, (7, 9))
    assert np.array_equal(whole.read(places), pieces.read(places))


def test_prompts_are_not_learned(tmp_path: Path, tokenizer: Any) -> None:
    corpus = corpus_of(tmp_path, [{"prompt": "the c", "completion": "at"}], tokenizer)
    assert spoken(corpus, tokenizer) == ("the cat<eos>", ["at<eos>"])
    apart = tokenizer("the c")["input_ids"] + tokenizer("at")["input_ids"]
    assert corpus.document(0).tolist() == [*apart, 0]
    assert corpus.manifests[0]["kind"] == "completion"


@pytest.mark.parametrize("template", [UNMARKED, MARKED])
def test_only_the_assistant_is_learned_from(tmp_path: Path, template: str) -> None:
    chatty = made_tokenizer(template=template)
    system = {"role": "system", "content": "naïve"}
    rows = [{"messages": TURNS}, {"messages": [system, *TURNS[:3]]}, {"messages": TURNS[:2], "tools": [{"name": "f"}]}]
    corpus = corpus_of(tmp_path, rows, chatty)
    text = "<|user|>the cat<eos><|assistant|>sat<eos><|user|>again<eos><|assistant|>on the mat<eos>"
    assert spoken(corpus, chatty) == (text, ["sat<eos>", "on the mat<eos>"])
    assert spoken(corpus, chatty, 1)[1] == ["sat<eos>"]
    assert spoken(corpus, chatty, 1)[0].endswith("again<eos>")
    assert spoken(corpus, chatty, 2)[1] == ["sat<eos>"]
    assert corpus.manifests[0]["kind"] == "messages"


def test_spaces_at_the_edges_of_turns_are_kept_apart(tmp_path: Path) -> None:
    edges = MARKED.replace("{{ m.content }}<eos>{% endgen", " {{ m.content }}\n{% endgen")
    spaced = made_tokenizer(template=edges)
    spaced.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    silent = {"role": "assistant", "content": ""}
    corpus = corpus_of(tmp_path, [{"messages": TURNS}, {"messages": [*TURNS, TURNS[0], silent]}], spaced)
    assert spoken(corpus, spaced)[1] == [" sat\n", " on the mat\n<eos>"]
    assert spoken(corpus, spaced, 1)[1] == [" sat\n", " on the mat\n", " \n<eos>"]


def test_tools_reach_the_template(tmp_path: Path) -> None:
    chatty = made_tokenizer(template="{% if tools %}{{ tools[0].name }}{% endif %}" + UNMARKED)
    corpus = corpus_of(tmp_path, [{"messages": TURNS[:2], "tools": [{"name": "mat"}]}, {"messages": TURNS[:2]}], chatty)
    assert spoken(corpus, chatty)[0].startswith("mat<|user|>")
    assert spoken(corpus, chatty, 1)[0].startswith("<|user|>")


def test_a_template_that_ends_nothing_gets_an_end(tmp_path: Path) -> None:
    bare = made_tokenizer(template=UNMARKED.replace("<eos>", " "))
    corpus = corpus_of(tmp_path, [{"messages": TURNS}], bare)
    assert spoken(corpus, bare)[0].endswith("<|assistant|>on the mat <eos>")
    assert spoken(corpus, bare)[1] == ["sat ", "on the mat <eos>"]


def test_completions_through_the_chat_template(tmp_path: Path) -> None:
    chatty = made_tokenizer(template=UNMARKED)
    corpus = corpus_of(tmp_path, [{"prompt": "the cat", "completion": "sat"}], chatty, chat=True)
    assert spoken(corpus, chatty) == ("<|user|>the cat<eos><|assistant|>sat<eos>", ["sat<eos>"])


def test_kinds_of_several_files_meet_in_one_corpus(tmp_path: Path) -> None:
    chatty = made_tokenizer(template=UNMARKED)
    (tmp_path / "t.jsonl").write_text('{"text": "the mat"}\n')
    (tmp_path / "c.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n")
    names = [str(tmp_path / "t.jsonl"), str(tmp_path / "c.jsonl")]
    for size in (1, 1000):
        corpus = build_corpus(documents(names), chatty, cache=tmp_path / "cache", shard_tokens=size)
        assert spoken(corpus, chatty, 0) == ("the mat<eos>", ["the mat<eos>"])
        assert spoken(corpus, chatty, 1)[1] == ["sat<eos>", "on the mat<eos>"]
        assert corpus.manifests[0]["kind"] == "mixed"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "the rows hold `messages` but the tokenizer has no chat template. Set its chat_template"),
        (
            "{% for m in messages %}{{ m.content }}{% if loop.last %}!{% endif %}{% endfor %}",
            "a.jsonl:1: the assistant's turns cannot be told from the rest (messages[1]): "
            "mark the assistant's words with {% generation %} in the chat template",
        ),
        (
            "{{ raise_exception('roles must alternate') }}",
            "a.jsonl:1: the chat template refuses the row: roles must alternate",
        ),
        ("{{ raise_exception('no') }}{% generation %}{% endgeneration %}", "the chat template refuses the row: no"),
        ("{% generation %}{% endgeneration %}x", "a.jsonl:1: no assistant turn: the chat template shows none"),
    ],
)
def test_templates_that_do_not_serve(tmp_path: Path, template: str | None, why: str) -> None:
    with pytest.raises(RegraftError) as caught:
        corpus_of(tmp_path, [{"messages": TURNS}], made_tokenizer(template=template))
    assert str(caught.value).endswith(why)
    assert cached_files(tmp_path) == []


def test_zero_tokens(tmp_path: Path) -> None:
    from tokenizers import normalizers

    deaf = made_tokenizer(post=True)
    deaf.backend_tokenizer.normalizer = normalizers.Replace("x", "")
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the"}\n{"text": "xx"}\n{"text": "x cat"}\n')
    with pytest.raises(RegraftError, match=r"a\.jsonl:2: zero tokens$"):
        build_corpus(documents([str(path)]), deaf, cache=tmp_path / "cache")
    assert cached_files(tmp_path) == []
    corpus = build_corpus(documents([str(path)], skip_bad=True), deaf, cache=tmp_path / "cache")
    assert corpus.line.tolist() == [1, 3]
    assert corpus.manifests[0]["skipped"] == {"zero tokens": 1}
    assert corpus.manifests[0]["first_skipped"] == [[str(path), 2, "zero tokens"]]
    assert corpus.manifests[0]["files"][0]["rows"] == 2
    path.write_text('{"text": "xx"}\n')
    with pytest.raises(RegraftError, match=r"a\.jsonl: no documents: skipped 1 × zero tokens"):
        build_corpus(documents([str(path)], skip_bad=True), deaf, cache=tmp_path / "cache")
    path.write_text('{"prompt": "the", "completion": "x"}\n')
    with pytest.raises(RegraftError, match=r"a\.jsonl:1: zero tokens in the completion"):
        build_corpus(documents([str(path)]), deaf, cache=tmp_path / "cache")


def test_tokenizers_that_do_not_serve(tmp_path: Path) -> None:
    endless = PreTrainedTokenizerFast(tokenizer_object=made_tokenizer().backend_tokenizer)
    with pytest.raises(RegraftError, match=r"the tokenizer has no end-of-text token.*Set its eos_token"):
        corpus_of(tmp_path, [{"text": "the"}], endless)


def test_bad_input_late_in_the_stream_leaves_nothing_behind(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the cat"}\n' * 3000 + "{\n")
    with pytest.raises(RegraftError, match=r"a\.jsonl:3001: not JSON"):
        build_corpus(documents([str(path)]), tokenizer, cache=tmp_path / "cache", shard_tokens=100)
    assert cached_files(tmp_path) == []


def test_a_second_build_does_not_tokenise(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "the cat"}, {"text": "sat", "extra": 1}]
    first = corpus_of(tmp_path, rows, tokenizer)
    tokenizer(["cut", "to a length"], truncation=True, max_length=2)
    with monkeypatch.context() as patch:
        patch.setattr(Tokeniser, "encode", None)
        second = corpus_of(tmp_path, rows, tokenizer)
        assert second.manifests == first.manifests
        assert second.digests == first.digests
        moved = tmp_path / "elsewhere"
        moved.mkdir()
        (tmp_path / "a.jsonl").rename(moved / "a.jsonl")
        third = build_corpus(documents([str(moved / "a.jsonl")]), tokenizer, cache=tmp_path / "cache")
        assert third.files == [str(moved / "a.jsonl")]
        assert third.manifests[0]["shards"] == first.manifests[0]["shards"]
        assert third.manifests[0]["ignored_keys"] == {"extra": 1}
    before = len(cached_files(tmp_path))
    corpus_of(tmp_path, [*rows, {"text": "mat"}], tokenizer)
    corpus_of(tmp_path, rows, made_tokenizer(post=True))
    assert len(cached_files(tmp_path)) == before + 4


def test_strict_reading_does_not_take_a_corpus_that_skipped(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the"}\n{\n')
    build_corpus(documents([str(path)], skip_bad=True), tokenizer, cache=tmp_path / "cache")
    with pytest.raises(RegraftError, match=r"a\.jsonl:2: not JSON"):
        build_corpus(documents([str(path)]), tokenizer, cache=tmp_path / "cache")


def test_damage_in_the_cache_is_found_and_named(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"text": "the cat"}]
    first = corpus_of(tmp_path, rows, tokenizer)
    (shard,) = (tmp_path / "cache" / "shards").iterdir()
    (manifest,) = (tmp_path / "cache").glob("*.json")
    for path in (shard, manifest):
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        with pytest.raises(DamagedStore, match=path.name):
            corpus_of(tmp_path, rows, tokenizer)
        path.write_bytes(whole)
    shard.unlink()
    with pytest.raises(DamagedStore, match=shard.name):
        Corpus.open(first.manifests[0], lambda digest: shard)
    assert corpus_of(tmp_path, rows, tokenizer).digests == first.digests
    with pytest.raises(DamagedStore, match="a corpus of format 2; this version reads 1"):
        Corpus.open({**first.manifests[0], "format": 2}, lambda digest: shard)


def test_a_killed_build_is_cleared_away_and_a_living_one_is_not(tmp_path: Path, tokenizer: Any) -> None:
    area = tmp_path / "cache" / "building"
    for name in ("dead", "unlocked", "alive"):
        (area / name).mkdir(parents=True)
        (area / name / "half").write_text("x")
    (area / "dead" / "lock").write_text("")
    (area / "alive" / "lock").write_text("")
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    holder = [sys.executable, "-c", hold, str(area / "alive" / "lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        corpus_of(tmp_path, [{"text": "the"}], tokenizer)
        assert sorted(p.name for p in area.iterdir()) == ["alive", "lock"]
        other.communicate("\n")


def test_a_cache_that_cannot_be_written(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(RegraftError, match=r"cache: the cache cannot be written: "):
        corpus_of(tmp_path, [{"text": "the"}], tokenizer)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RegraftError, match="the cache cannot be written: No space left on device"):
            corpus_of(tmp_path, [{"text": "the"}], tokenizer)
    assert cached_files(tmp_path) == []
    assert corpus_of(tmp_path, [{"text": "the"}], tokenizer).documents == 1


def test_only_one_shard_is_held(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Watched(Draft):
        __hash__ = object.__hash__

        def save(self, folder: Path) -> dict[str, Any]:
            nonlocal most
            held.add(self)
            most = max(most, len(held))
            assert self.tokens < 60
            return super().save(folder)

    monkeypatch.setattr(corpus_module, "Draft", Watched)
    seen: list[tuple[int, int]] = []
    corpus = corpus_of(
        tmp_path, [{"text": "the cat sat"}] * 300, tokenizer, shard_tokens=50, progress=lambda d, t: seen.append((d, t))
    )
    assert most == 1
    assert len(corpus.manifests[0]["shards"]) > 10
    assert seen == [(300, corpus.tokens)]


def test_shards_are_plain_safetensors_with_ordinary_permissions(tmp_path: Path, tokenizer: Any) -> None:
    from safetensors.numpy import load_file

    old = os.umask(0o022)
    try:
        corpus = corpus_of(tmp_path, [{"text": "the cat"}, {"text": "sat"}], tokenizer)
    finally:
        os.umask(old)
    (shard,) = (tmp_path / "cache" / "shards").iterdir()
    tensors = load_file(shard)
    assert tensors["tokens"].dtype == np.uint16
    assert tensors["tokens"].tolist() == [*corpus.document(0), *corpus.document(1)]
    assert "supervised" not in tensors
    assert {oct(p.stat().st_mode)[-3:] for p in (shard, *(tmp_path / "cache").glob("*.json"))} == {"644"}


def test_large_vocabularies_are_stored_in_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = made_tokenizer()
    vocabulary = {**wide.get_vocab(), "far": 70_000}
    monkeypatch.setattr(wide, "get_vocab", lambda: vocabulary)
    corpus = corpus_of(tmp_path, [{"text": "the cat"}], wide)
    assert wide.decode(corpus.document(0)) == "the cat<eos>"
    assert corpus.read(np.array([0])).dtype == np.int64


def test_held_out_documents_are_decided_by_their_content(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"text": f"the cat {n}"} for n in range(400)]
    before = corpus_of(tmp_path, rows, tokenizer)
    after = corpus_of(tmp_path, [{"text": "new"}, *rows[::-1], *rows[:50]], tokenizer, name="b")
    train, held = before.split(0.1)
    assert 20 < held.documents < 70
    assert train.documents + held.documents == 400
    later_train, later_held = after.split(0.1)
    assert set(held.row_ids) <= set(later_held.row_ids)
    assert not set(later_train.row_ids) & set(later_held.row_ids)
    assert len(set(before.split(0.1, at_most=5)[1].row_ids)) == 5
    assert before.split(0.0)[1].documents == 0
    few = corpus_of(tmp_path, rows[:10], tokenizer, name="c")
    assert few.split(0.01)[1].documents == 5
    assert few.split(0.01, at_least=2)[1].documents == 2
    assert few.split(0.999)[0].documents >= 1
    one = corpus_of(tmp_path, rows[:1], tokenizer, name="d")
    assert [part.documents for part in one.split(0.5)] == [1, 0]
    with pytest.raises(RegraftError, match="the held-out share must be"):
        few.split(1.0)


def test_several_corpora_as_one(tmp_path: Path, tokenizer: Any) -> None:
    a = corpus_of(tmp_path, [{"text": "the", "tags": ["x"]}, {"text": "cat", "source": "b"}], tokenizer, "a")
    b = corpus_of(tmp_path, [{"text": "sat", "tags": ["y", "x"]}, {"text": "mat"}, {"text": "the"}], tokenizer, "b")
    both = concat([a.select(np.array([1])), b, a.select(np.array([0]))])
    words = [tokenizer.decode(both.document(i)).removesuffix("<eos>") for i in range(both.documents)]
    assert words == ["cat", "sat", "mat", "the", "the"]
    assert [both.sources[s] for s in both.source] == ["b", "b", "b", "b", "a"]
    assert [Path(both.files[f]).name for f in both.file] == ["a.jsonl", "b.jsonl", "b.jsonl", "b.jsonl", "a.jsonl"]
    assert both.tagged("x").tolist() == [False, True, False, False, True]
    assert both.row_ids[3] == both.row_ids[4]
    other = corpus_of(tmp_path, [{"text": "the"}], made_tokenizer(post=True), "c")
    with pytest.raises(RegraftError, match="different tokenizers"):
        concat([a, other])
    with pytest.raises(RegraftError, match="no corpora"):
        concat([])


def test_the_fingerprint_follows_what_decides_the_ids(tokenizer: Any) -> None:
    same, marked = made_tokenizer(), made_tokenizer(template=MARKED)
    assert tokenizer_fingerprint(same) == tokenizer_fingerprint(tokenizer)
    assert len({tokenizer_fingerprint(t) for t in (same, marked, made_tokenizer(post=True))}) == 3

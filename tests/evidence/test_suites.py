"""Suites: what they score is what a plain loop over one document or choice at a time would score."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from regraft.core.errors import RegraftError
from regraft.data.corpus import build_corpus
from regraft.data.read import documents
from regraft.evidence import suites
from regraft.evidence.items import Items
from regraft.evidence.suites import HeldOut, load_suites
from regraft.models.causal import CausalLM
from regraft.numerics.rollout import texts

LETTERS = "abcdefghijklmnopqrstuvwxyz ."
BATCHES = [1, 3 * 24, 64 * 24]
"""Padded tokens of a batch: one row, a few, all."""
PROSE = ["the cat sat on the mat. ", "the dog ran after the cat. ", "a catalogue of cats and dogs. "]


def wrapped(tokenizer, **special):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", **special)


def letters(**special):
    """One token a character."""
    vocabulary = {"<eos>": 0, "<unk>": 1, **{c: i + 2 for i, c in enumerate(LETTERS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return wrapped(tokenizer, **special)


def bpe(**special):
    """Bytes and merges that cross no space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<eos>", "<bos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(PROSE * 5, trainer)
    return wrapped(tokenizer, **special)


def with_bos():
    tokenizer = bpe(bos_token="<bos>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 0)]
    )
    return tokenizer


def model(tokenizer, *, context=64, seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        attention_dropout=0.5,
        initializer_range=0.4,
    )
    return CausalLM(LlamaForCausalLM(config).eval(), tokenizer)


@torch.no_grad()
def log_probs(lm, ids):
    """Log-probability of each token but the first, read alone."""
    lm.module.eval()
    logits = lm.module(input_ids=torch.tensor([ids])).logits[0].double()
    return logits[:-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]].numpy()


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def corpus(tmp_path, rows, tokenizer, **knobs):
    path = write(tmp_path / "rows.jsonl", rows)
    return build_corpus(documents([str(path)]), tokenizer, cache=tmp_path / "cache", **knobs)


# --- held-out loss ---------------------------------------------------------------------------------------------------


@pytest.fixture
def held_out(tmp_path):
    rows = [{"text": (PROSE[i % 3] * 9)[: 1 + i * i], "tags": ["even"] * (i % 2 == 0)} for i in range(14)]
    return HeldOut("prose", corpus(tmp_path, rows, letters()), 24)


@pytest.mark.parametrize("batch", BATCHES)
def test_held_out_loss_is_that_of_each_document_alone(held_out, batch):
    lm = model(letters())
    reading = held_out.measure(lm, batch_tokens=batch)
    assert (reading.suite, reading.unit, reading.lower_is_better) == ("prose", "nats/token", True)
    assert len(reading) == 14
    for at, row in enumerate(reading.ids):
        ids = held_out.corpus.document(held_out.corpus.row_ids.index(row)).tolist()
        windows = [ids[k : k + 25] for k in range(0, len(ids) - 1, 24)]
        alone = np.concatenate([log_probs(lm, window) for window in windows])
        assert reading.weights[at] == len(ids) - 1 == len(alone)
        assert reading.values[at] == pytest.approx(-alone.mean(), abs=1e-5)
    assert reading.skills == ("even",)
    assert len(reading.subset("even")) == 7


def test_held_out_is_the_same_whatever_the_chunks(held_out, monkeypatch):
    lm = model(letters())
    whole = held_out.measure(lm)
    monkeypatch.setattr(suites, "_CHUNK_TOKENS", 30)
    pieces = held_out.measure(lm)
    assert pieces.ids == whole.ids
    np.testing.assert_allclose(pieces.values, whole.values, atol=1e-6)
    assert (pieces.weights == whole.weights).all()


def test_held_out_counts_only_supervised_tokens(tmp_path):
    rows = [{"prompt": "the cat ", "completion": "sat"}, {"prompt": "a " * 20, "completion": "dog ran. " * 4}]
    suite = HeldOut("answers", corpus(tmp_path, rows, letters()), 24)
    lm = model(letters())
    reading = suite.measure(lm)
    by_length = sorted(range(2), key=lambda i: suite.corpus.lengths[i])
    assert reading.weights[by_length].tolist() == [4, 37]
    ids = suite.corpus.document(by_length[0]).tolist()
    assert reading.values[by_length[0]] == pytest.approx(-log_probs(lm, ids)[-4:].mean(), abs=1e-5)


def test_copies_and_single_tokens_are_passed_over_and_counted(tmp_path):
    rows = [{"text": "a cat."}, {"text": "a dog."}, {"text": "a cat.", "weight": 3}, {"text": "<eos>"}]
    suite = HeldOut("prose", corpus(tmp_path, rows, letters()), 8)
    reading = suite.measure(model(letters()))
    assert len(reading) == 2
    assert suite.skipped == {"fewer than 2 tokens": 1, "a copy of another document": 1}
    assert reading.texts == ("a cat.", "a dog.")


def test_held_out_fingerprint_is_of_the_documents_and_the_context(tmp_path):
    rows = [{"text": text} for text in PROSE]
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    one = HeldOut("one", corpus(here, rows, letters()), 16)
    other = HeldOut("other", corpus(there, rows[::-1] + rows[:1], bpe()), 16)
    assert one.fingerprint == other.fingerprint
    assert HeldOut("one", one.corpus, 17).fingerprint != one.fingerprint
    assert HeldOut("one", one.corpus.select(np.array([0, 1])), 16).fingerprint != one.fingerprint


def test_measuring_leaves_the_model_as_it_was(held_out):
    lm = model(letters())
    quiet = held_out.measure(lm).values
    lm.module.train()
    lm.module.model.layers[1].eval()
    modes = [part.training for part in lm.module.modules()]
    assert (held_out.measure(lm).values == quiet).all()
    assert [part.training for part in lm.module.modules()] == modes
    assert all(p.grad is None for p in lm.module.parameters())


def test_held_out_refuses_what_would_give_wrong_numbers(held_out, tmp_path):
    with pytest.raises(RegraftError, match=r"^prose: a context of 24 tokens is longer than the model's 16$"):
        held_out.measure(model(letters(), context=16))
    with pytest.raises(RegraftError, match="prose: the documents were tokenised for another tokenizer"):
        held_out.measure(model(bpe()))
    broken = model(letters())
    with torch.no_grad():
        broken.module.lm_head.weight.fill_(torch.nan)
    with pytest.raises(RegraftError, match="prose: the model's log-probabilities are not finite"):
        held_out.measure(broken)
    with pytest.raises(RegraftError, match="no documents to measure on"):
        HeldOut("none", held_out.corpus.select(np.array([], dtype=np.int64)), 8)
    with pytest.raises(RegraftError, match="the context must be at least 1 token, not 0"):
        HeldOut("zero", held_out.corpus, 0)
    small = model(letters())
    small.tokenizer = None
    small.module.resize_token_embeddings(5)
    with pytest.raises(RegraftError, match="is not one of the 5 that the model embeds"):
        held_out.measure(small)


# --- multiple choice -------------------------------------------------------------------------------------------------

QUESTIONS = [
    {"prompt": "the cat", "choices": [" sat", " ran after the dog.", "s"], "answer": 0, "tags": ["short"]},
    {"prompt": "a ca", "choices": ["t", "talogue", " and dogs"], "answer": "talogue", "tags": ["short", "merge"]},
    {"prompt": "", "choices": ["the", "a dog"], "answer": 1},
    {"prompt": "the dog ran after the", "choices": [" cat", " mat. a catalogue"], "answer": 1},
    {"prompt": "ünï", "choices": ["cöde", " dé"], "answer": 0, "id": "accents"},
]


def by_hand(lm, tokenizer, row, normalise):
    """Each choice's score: from the first place on where the choices' tokens are no longer the prompt's own."""
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    plain = [tokenizer(row["prompt"] + choice, add_special_tokens=False) for choice in row["choices"]]
    texts = [start + made["input_ids"] for made in plain]
    kept = min(len(start + tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]), *map(len, texts))
    while any(text[:kept] != texts[0][:kept] for text in texts):
        kept -= 1
    reach = [
        len(start) + next(i for i in range(len(made["input_ids"])) if made.token_to_chars(i).end > len(row["prompt"]))
        for made in plain
    ]
    kept = min(kept, *reach)
    scores = []
    for text, choice in zip(texts, row["choices"], strict=True):
        read, begin = (text, kept) if kept else ([tokenizer.eos_token_id, *text], 1)
        each = log_probs(lm, read)[begin - 1 :]
        scores.append(each.sum() / {"none": 1, "tokens": len(each), "bytes": len(choice.encode())}[normalise])
    return scores


@pytest.mark.parametrize("normalise", ["none", "tokens", "bytes"])
@pytest.mark.parametrize("tokenizer", [bpe(), with_bos()], ids=["plain", "bos-eos"])
def test_choices_score_as_each_alone_at_every_batch_size(tokenizer, normalise):
    lm = model(tokenizer)
    suite = Items.of("quiz", QUESTIONS, normalise=normalise)
    readings = [suite.measure(lm, batch_tokens=batch) for batch in BATCHES]
    for reading in readings:
        for row, value, margin in zip(QUESTIONS, reading.values, reading.continuous, strict=True):
            scores = by_hand(lm, tokenizer, row, normalise)
            right = row["answer"] if isinstance(row["answer"], int) else row["choices"].index(row["answer"])
            lead = scores[right] - max(scores[:right] + scores[right + 1 :])
            assert margin == pytest.approx(lead, abs=1e-5)
            assert value == (lead > 0)
        assert (reading.values == readings[0].values).all()
        np.testing.assert_allclose(reading.continuous, readings[0].continuous, atol=1e-5)
    assert readings[0].ids[-1] == "accents"
    assert readings[0].tags[:2] == (("short",), ("short", "merge"))
    assert readings[0].weights.tolist() == [1.0] * 5
    assert readings[0].texts[1] == "a ca → talogue"


def test_a_token_across_the_boundary_is_scored_in_every_choice():
    tokenizer = bpe()
    assert len(tokenizer("a cat")["input_ids"]) < len(tokenizer("a ca")["input_ids"]) + 1, "the test needs a merge"
    lm = model(tokenizer)
    row = {"prompt": "a ca", "choices": ["t", "b"], "answer": 0}
    reading = Items.of("merge", [row]).measure(lm)
    a, merged, split = (tokenizer(text)["input_ids"] for text in ("a", "a cat", "a cab"))
    assert merged[: len(a)] == split[: len(a)] == a
    lead = log_probs(lm, merged)[len(a) - 1 :].sum() - log_probs(lm, split)[len(a) - 1 :].sum()
    assert reading.continuous[0] == pytest.approx(lead, abs=1e-5)


def test_the_beginning_of_text_is_not_read_twice():
    lm = model(with_bos())
    rows = [{"prompt": "the cat", "choices": [" sat", " ran"], "answer": 0}]
    marked = [{**rows[0], "prompt": "<bos>the cat"}]
    once, twice = (Items.of("quiz", each).measure(lm) for each in (rows, marked))
    np.testing.assert_allclose(once.continuous, twice.continuous, atol=1e-6)


def test_a_tokenizer_without_offsets_reads_the_choice_apart():
    tokenizer = ByT5Tokenizer()
    lm = model(tokenizer)
    row = {"prompt": "the cat", "choices": [" sat", " ran off"], "answer": 1}
    reading = Items.of("bytes", [row]).measure(lm)
    texts = [tokenizer(row["prompt"] + choice)["input_ids"][:-1] for choice in row["choices"]]
    sat, ran = (log_probs(lm, text)[6:].sum() for text in texts)
    assert reading.continuous[0] == pytest.approx(ran - sat, abs=1e-5)


def test_a_tie_is_not_a_right_answer():
    lm = model(letters())
    with torch.no_grad():
        lm.module.lm_head.weight.zero_()
    for rows in ([{"prompt": "a", "choices": ["b", "c"], "answer": 0}], [{"prompt": "a", "answer": "b"}]):
        assert [Items.of("tie", rows).measure(lm, batch_tokens=b).values.tolist() for b in BATCHES] == [[0.0]] * 3


# --- exact answers ---------------------------------------------------------------------------------------------------


def continuations(lm, prompts, tokens):
    written = texts(lm, prompts, tokens=tokens)
    return [(p, t) for p, t in zip(prompts, written, strict=True) if len(t) == tokens and set(t) <= set(LETTERS)]


@pytest.mark.parametrize("batch", BATCHES)
def test_an_exact_answer_is_right_when_greedy_decoding_writes_it(batch):
    lm = model(letters())
    prompts = [a + b + c for a in "the" for b in "cat" for c in "dog ."]
    pairs = continuations(lm, prompts, 5)
    assert len(pairs) > 10
    written = [{"prompt": p, "answer": t} for p, t in pairs]
    other = [{"prompt": p, "answer": t[:-1] + ("a" if t[-1] != "a" else "b")} for p, t in pairs]
    either = [{"prompt": p, "answer": ["zq", t[:2]]} for p, t in pairs]
    assert Items.of("written", written).measure(lm, batch_tokens=batch).values.all()
    assert not Items.of("other", other).measure(lm, batch_tokens=batch).values.any()
    assert Items.of("either", either).measure(lm, batch_tokens=batch).values.all()


def test_the_companion_of_an_exact_answer_is_its_mean_log_probability():
    lm = model(letters())
    reading = Items.of("exact", [{"prompt": "the ", "answer": ["cat", "dog"]}]).measure(lm)
    each = [log_probs(lm, lm.tokenizer("the " + answer)["input_ids"])[3:].mean() for answer in ("cat", "dog")]
    assert reading.continuous[0] == pytest.approx(max(each), abs=1e-5)


def test_the_stop_must_follow():
    lm = model(letters())
    ((prompt, text), *_) = continuations(lm, ["the ", "cat", "dog", "sat", "on a"], 6)
    rows = [{"prompt": prompt, "answer": text[:3]}]
    stop, wrong = text[3], "a" if text[3] != "a" else "b"
    assert Items.of("open", rows).measure(lm).values[0] == 1
    assert Items.of("stopped", rows, stop=stop).measure(lm).values[0] == 1
    assert Items.of("runs on", rows, stop=wrong).measure(lm).values[0] == 0
    assert Items.of("runs on", rows, stop="<eos>").measure(lm).values[0] == 0
    assert Items.of("a", rows, stop=stop).fingerprint != Items.of("a", rows).fingerprint


# --- reading items ---------------------------------------------------------------------------------------------------

GOOD = {"prompt": "the", "choices": [" cat", " dog"], "answer": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[1]", "not an object: rows need `prompt`, `choices` and `answer`, or `prompt` (or `messages`) and `answer`"),
        ("{", "not JSON: Expecting property name enclosed in double quotes"),
        ({"choices": ["a", "b"], "answer": 0}, "field `prompt` is missing: rows need `prompt`, `choices`"),
        ({**GOOD, "answer": None}, "field `answer` is missing: rows need"),
        ({**GOOD, "prompt": 3}, "field `prompt` must be a string, not a number"),
        ({**GOOD, "answer": " cow"}, "the answer is not among the choices: ' cow'"),
        ({**GOOD, "answer": "cat"}, "the answer is not among the choices: 'cat' (one differs in its spaces)"),
        ({**GOOD, "answer": 2}, "the answer is not among the choices: index 2 of 2, from 0"),
        ({**GOOD, "answer": -1}, "the answer is not among the choices: index -1 of 2, from 0"),
        ({**GOOD, "answer": True}, "field `answer` must be a choice or the index of one, not true or false"),
        ({**GOOD, "answer": 0.5}, "field `answer` must be a choice or the index of one, not a number"),
        ({**GOOD, "choices": [" cat"]}, "fewer than 2 choices: 1"),
        ({**GOOD, "choices": [" cat", ""]}, "a choice is empty: choices[1]"),
        ({**GOOD, "choices": [" cat", " cat"]}, "a choice is there twice: ' cat'"),
        ({**GOOD, "choices": "cat"}, "field `choices` must be a list of strings, not a string"),
        ({**GOOD, "choices": [" cat", 3]}, "field `choices` must be a list of strings, not a list with a number"),
        ({**GOOD, "tags": "hard"}, "field `tags` must be a list of strings, not a string"),
        ({**GOOD, "id": 1.5}, "field `id` must be a string or an integer, not a number"),
        ({"prompt": "a", "answer": "b"}, "mixed schemas: has no `choices` but {}:1 has"),
        ({**GOOD, "prompt": "one", "id": "first"}, "a duplicate id: 'first' is also at {}:2"),
    ],
)
def test_a_bad_item_is_one_line_that_names_its_place(tmp_path, row, message):
    path = tmp_path / "quiz.jsonl"
    lines = [GOOD, {**GOOD, "prompt": "a", "id": "first"}, row]
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    with pytest.raises(RegraftError) as caught:
        Items.read(path)
    assert str(caught.value).startswith(f"{path}:3: {message.format(path)}")
    assert "\n" not in str(caught.value)
    kept = Items.read(path, skip_bad=True)
    assert len(kept.items) == 2
    assert kept.skipped == {message.partition(":")[0].split(", not")[0]: 1}
    assert kept.first_skipped[0].startswith(f"{path}:3: ")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "the answer is empty"),
        ([], "the answer is empty"),
        (["a", ""], "the answer is empty"),
        (3, "field `answer` must be a string or a list of strings"),
    ],
)
def test_a_bad_exact_answer_is_refused(answer, message):
    with pytest.raises(RegraftError, match=f"quiz:1: {message}"):
        Items.of("quiz", [{"prompt": "a", "answer": answer}])


def test_files_and_settings_that_cannot_be_used(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(RegraftError, match="empty file"):
        Items.read(empty)
    with pytest.raises(RegraftError, match="cannot be read: No such file"):
        Items.read(tmp_path / "nowhere.jsonl")
    with pytest.raises(RegraftError, match="a folder, not a file of items"):
        Items.read(tmp_path)
    bad = write(tmp_path / "bad.jsonl", [{"prompt": "a"}, {"prompt": "b"}])
    with pytest.raises(RegraftError, match=r"bad: no items: skipped 2 × field `answer` is missing"):
        Items.read(bad, skip_bad=True)
    with pytest.raises(RegraftError, match="`normalise` is one of none, tokens, bytes, not 'chars'"):
        Items.of("quiz", [GOOD], normalise="chars")
    with pytest.raises(RegraftError, match="`stop` is empty"):
        Items.of("quiz", [GOOD], stop="")


def test_items_that_a_model_cannot_read():
    lm = model(letters(), context=8)
    fits = {"prompt": "the cat", "choices": ["s", "z"], "answer": 0, "id": 1}
    long = {"prompt": "the cat", "choices": ["s", " sat"], "answer": 0, "id": 2}
    with pytest.raises(
        RegraftError, match=r"^quiz:2: item '2' needs a context of 10 tokens, the model's is 8 \(and 1 more items"
    ):
        Items.of("quiz", [fits, long, {**long, "id": 3}]).measure(lm)
    kept = Items.of("quiz", [long, fits], skip_bad=True).measure(lm)
    assert kept.ids == ("1",)
    assert (kept.continuous == Items.of("quiz", [fits]).measure(lm).continuous).all()
    with pytest.raises(RegraftError, match="quiz: no item fits the model's context of 8"):
        Items.of("quiz", [long], skip_bad=True).measure(lm)
    lm.tokenizer = None
    with pytest.raises(RegraftError, match="quiz: the model has no tokenizer"):
        Items.of("quiz", [fits]).measure(lm)


def test_an_item_needs_something_to_begin_with():
    tokenizer = letters()
    tokenizer.eos_token = None
    rows = [GOOD | {"choices": ["cat", "dog"]}, {"prompt": "", "choices": ["a", "b"], "answer": 0}]
    with pytest.raises(RegraftError, match="quiz:2: the tokenizer has neither a beginning- nor an end-of-text token"):
        Items.of("quiz", rows).measure(model(tokenizer))
    normal = letters()
    normal.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(RegraftError, match=r"quiz:1: item .* has a choice without a token of its own"):
        Items.of("quiz", [{"prompt": "a", "choices": [" b", " "], "answer": 0}]).measure(model(normal))


def test_the_fingerprint_of_items_is_of_their_content_and_scoring():
    rows = [GOOD, {**GOOD, "prompt": "a"}]
    quiz = Items.of("quiz", rows)
    assert Items.of("other name", rows[::-1]).fingerprint == quiz.fingerprint
    assert Items.of("quiz", [{**row, "tags": ["new"]} for row in rows]).fingerprint == quiz.fingerprint
    assert Items.of("quiz", rows, normalise="bytes").fingerprint != quiz.fingerprint
    assert Items.of("quiz", [GOOD, {**GOOD, "prompt": "b"}]).fingerprint != quiz.fingerprint
    assert Items.of("quiz", [{**GOOD, "answer": 1}, rows[1]]).fingerprint != quiz.fingerprint


# --- files -----------------------------------------------------------------------------------------------------------


def test_suites_are_told_apart_by_their_first_row(tmp_path):
    quiz = write(tmp_path / "quiz.jsonl", [GOOD])
    exact = tmp_path / "exact.json"
    exact.write_text("\ufeff" + json.dumps([{"prompt": "the ", "answer": "cat"}]), encoding="utf-8")
    rows = write(tmp_path / "rows.jsonl", [{"text": text} for text in PROSE])
    prose = tmp_path / "prose.txt"
    prose.write_text(PROSE[0])
    folder = tmp_path / "notes.d"
    folder.mkdir()
    (folder / "one.md").write_text(PROSE[1])
    paths = [quiz, exact, rows, prose, folder]
    found = load_suites(paths, tokenizer=letters(), cache=tmp_path / "cache", context=16, stop=".")
    assert [(type(suite), suite.name) for suite in found] == [
        (Items, "quiz"),
        (Items, "exact"),
        (HeldOut, "rows"),
        (HeldOut, "prose"),
        (HeldOut, "notes.d"),
    ]
    assert found[1].stop == "."
    lm = model(letters())
    assert [len(suite.measure(lm)) for suite in found] == [1, 1, 3, 1, 1]


def test_two_suites_of_one_name_and_unusable_files(tmp_path):
    settings = {"tokenizer": letters(), "cache": tmp_path / "cache", "context": 16}
    quiz = write(tmp_path / "quiz.jsonl", [GOOD])
    (tmp_path / "old").mkdir()
    again = write(tmp_path / "old" / "quiz.jsonl", [GOOD])
    with pytest.raises(RegraftError, match=r"a suite 'quiz' was already read from .*quiz\.jsonl\. Rename one"):
        load_suites([quiz, again], **settings)
    with pytest.raises(RegraftError, match=r"no such file, folder or dataset; did you mean .*quiz\.jsonl"):
        load_suites([tmp_path / "quis.jsonl"], **settings)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{")
    with pytest.raises(RegraftError, match=r"broken\.jsonl:1: not JSON"):
        load_suites([broken], **settings)

"""The stream of corpora: the same bits whenever it is made again, copies of one's own, a share of 0 that is none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch

from regraft.engine.fit import Fitted
from regraft.evidence.claims import Meter
from regraft.models.causal import CausalLM
from regraft.worlds import python_text, stream


def _documents(words: str) -> list[python_text.Document]:
    return [{"name": str(i), "source": words[0], "text": f"{words} " * (20 + i % 7)} for i in range(60)]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "a"))
    monkeypatch.setattr(python_text, "reference", lambda: _documents("to be or not to be"))
    monkeypatch.setattr(python_text, "docstrings", lambda: _documents("that is the question"))
    monkeypatch.setattr(python_text, "source", lambda area: _documents(f"def {area}(x): return x"))
    for name, value in {"VOCABULARY": 300, "WIDTH": 16, "DEPTH": 1, "BASE_STEPS": 3}.items():
        monkeypatch.setattr(stream, name, value)
    forget()
    yield
    forget()


def forget() -> None:
    """As in a new process."""
    stream.text.cache_clear()
    stream._tokenizer.cache_clear()


def equal(a: CausalLM, b: CausalLM) -> bool:
    return all(torch.equal(t, b.state()[name]) for name, t in a.state().items())


def test_a_base_is_the_same_from_the_cache_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, kept = stream.base(0), stream.base(0)
    assert equal(made, kept)
    forget()
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "b"))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    again = stream.base(0)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert equal(made, again)
    assert not equal(made, stream.base(1))
    assert not equal(made, stream.base(0, lr=1e-3))
    assert not list((tmp_path / "a").rglob("*.part"))


def test_to_train_one_copy_of_the_base_leaves_the_others_alone() -> None:
    one, other = stream.base(0), stream.base(0)
    stream.update(one, None, 0, "code", steps=1)
    assert not equal(one, other)
    assert equal(other, stream.base(0))


def test_a_share_of_nothing_is_no_replay_and_a_share_costs_nothing() -> None:
    runs = {}
    for name, past, share in (("none", (), 0.0), ("zero", ("prose",), 0.0), ("half", ("prose",), 0.5)):
        model, meter = stream.base(0), Meter()
        stream.update(model, meter, 0, "code", past=past, share=share, steps=4, batch=2)  # type: ignore[arg-type]
        runs[name] = model
        assert meter.counts() == {"rows": 8, "tokens": 8 * stream.CONTEXT, "updates": 4, "forwards": 0, "written": 0}
    assert equal(runs["none"], runs["zero"])
    assert not equal(runs["none"], runs["half"])


@pytest.mark.parametrize("name", ["prose", "code", "packages", "cipher", "facts"])
def test_every_corpus_has_blocks_to_train_on_and_others_held_out(name: stream.Corpus) -> None:
    train, held = stream.text(name)
    assert train["input_ids"].shape == (train.count, stream.CONTEXT)
    assert 0 < held.count <= stream.HELD_BLOCKS
    first = stream.text(name)
    forget()
    assert torch.equal(first.train["input_ids"], stream.text(name).train["input_ids"])


def test_a_cipher_is_prose_letter_by_letter() -> None:
    prose, cipher = (stream._documents(name)[0]["text"] for name in ("prose", "cipher"))  # type: ignore[arg-type]
    assert len(prose) == len(cipher)
    assert len(set(zip(prose, cipher, strict=True))) == len(set(prose)) == len(set(cipher))


def test_the_curve_of_a_watched_corpus_begins_before_the_update() -> None:
    model = stream.base(0)
    fitted = stream.update(model, None, 0, "code", watch=("prose",), watch_every=2, steps=4)
    assert [step for step, _ in stream.curve(fitted, "prose")] == [0, 2, 4]
    assert stream.curve(fitted, "prose")[-1][1] == pytest.approx(stream.losses(model, "prose")["prose"], abs=0.05)


@pytest.mark.parametrize(("values", "spike"), [([2.0, 3.5, 1.0], 1.5), ([2.0, 1.0], 0.0), ([2.0], 0.0)])
def test_a_spike_is_the_highest_rise_above_the_start(values: list[float], spike: float) -> None:
    records = [{"step": float(i), "held/prose": v} for i, v in zip(count(), values, strict=False)]
    assert stream.spike(Fitted(curve=[*records, {"step": 9.0}]), "prose") == spike

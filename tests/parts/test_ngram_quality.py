import numpy as np
import pytest
import torch
from part_world import context

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.numerics.ngram import KneserNey
from regraft.parts.transforms import ngram_quality as part
from regraft.parts.transforms.ngram_quality import ngram_quality

DICE = np.random.default_rng(0)


def clean(count):
    """Tokens that count upwards."""
    return [(np.arange(20) + DICE.integers(50)) % 50 for _ in range(count)]


def noisy(count):
    return [DICE.integers(0, 50, 20) for _ in range(count)]


TRUSTED = Rows({"tokens": clean(40)})


def test_keeps_the_documents_like_the_trusted_ones_in_their_order():
    documents = [d for pair in zip(clean(10), noisy(10), strict=True) for d in pair]
    rows = Rows({"tokens": documents, "row": torch.arange(20)})
    kept = ngram_quality(keep=0.5, order=3)(rows, context({"trusted": TRUSTED}))
    assert kept["row"].tolist() == list(range(0, 20, 2))
    assert set(kept) == {"tokens", "row", "quality"}
    model = KneserNey.fit(TRUSTED["tokens"], order=3)
    np.testing.assert_allclose(kept["quality"], -model.log_perplexity(kept["tokens"]))


@pytest.mark.parametrize(("count", "keep", "left"), [(1, 0.1, 1), (7, 0.5, 4), (5, 1.0, 5), (10, 0.1, 1)])
def test_how_many_are_kept(count, keep, left):
    rows = Rows({"tokens": noisy(count)})
    assert ngram_quality(keep=keep)(rows, context({"trusted": TRUSTED})).count == left


def test_pieces_change_nothing(monkeypatch):
    rows, ctx = Rows({"tokens": [*noisy(6), *clean(5)]}), context({"trusted": TRUSTED})
    whole = ngram_quality(keep=1.0)(rows, ctx)
    monkeypatch.setattr(part, "PIECE", 4)
    assert torch.equal(ngram_quality(keep=1.0)(rows, ctx)["quality"], whole["quality"])


def test_equal_documents_keep_their_order():
    rows = Rows({"tokens": [[1, 2, 3]] * 5, "row": torch.arange(5)})
    assert ngram_quality(keep=0.4)(rows, context({"trusted": TRUSTED}))["row"].tolist() == [0, 1]


def test_no_rows():
    assert ngram_quality()(Rows({"tokens": []}), context({"trusted": TRUSTED})).count == 0


def test_tokens_of_any_kind():
    lists = Rows({"tokens": [[1, 2, 3], [9, 9, 9]]})
    tensor = Rows({"tokens": torch.tensor([[1, 2, 3], [9, 9, 9]])})
    found = [ngram_quality(keep=1.0)(r, context({"trusted": TRUSTED}))["quality"] for r in (lists, tensor)]
    assert torch.equal(*found)


class OnDisk:
    """A column that is read when rows are taken."""

    def __init__(self, documents):
        self.documents = documents

    def __len__(self):
        return len(self.documents)

    def gather(self, index):
        return [self.documents[i] for i in index.tolist()]


def test_tokens_on_disk():
    documents, ctx = noisy(5), context({"trusted": Rows({"tokens": OnDisk(TRUSTED["tokens"])})})
    lazy, plain = (ngram_quality(keep=0.4)(Rows({"tokens": t}), ctx) for t in (OnDisk(documents), documents))
    assert torch.equal(lazy["quality"], plain["quality"])


def test_bad_input(monkeypatch):
    ctx = context({"trusted": TRUSTED})
    for keep in (0.0, 1.5, float("nan")):
        with pytest.raises(RegraftError, match="keep"):
            ngram_quality(keep=keep)(TRUSTED, ctx)
    monkeypatch.setattr(part, "PIECE", 2)
    with pytest.raises(RegraftError, match="document 3: no tokens"):
        ngram_quality()(Rows({"tokens": [[1], [2], [3], []]}), ctx)
    with pytest.raises(RegraftError, match="no column 'tokens'"):
        ngram_quality()(Rows({"text": ["a"]}), ctx)
    with pytest.raises(RegraftError, match="no rows named 'trusted'"):
        ngram_quality()(TRUSTED, context())
    with pytest.raises(RegraftError, match="no token to fit"):
        ngram_quality()(TRUSTED, context({"trusted": Rows({"tokens": []})}))

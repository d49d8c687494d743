import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from regraft.core.errors import RegraftError
from regraft.numerics.ngram import KneserNey, ngram_bags

PAD = -1


def naive(documents, order):
    """Interpolated Kneser-Ney straight from its definition: p(w, history)."""
    seen = sorted({w for d in documents for w in d})
    counts = [Counter() for _ in range(order + 1)]
    for d in documents:
        padded = [PAD] * (order - 1) + list(d)
        for i in range(order - 1, len(padded)):
            counts[order][tuple(padded[i - order + 1 : i + 1])] += 1
    for k in range(order - 1, 0, -1):
        for gram in counts[k + 1]:
            counts[k][gram[1:]] += 1
    discounts, followers = [0.0], [None]
    for k in range(1, order + 1):
        n1, n2 = (sum(c == n for c in counts[k].values()) for n in (1, 2))
        discounts.append(n1 / (n1 + 2 * n2) if n1 and n2 else 0.75)
        after = defaultdict(list)
        for gram, c in counts[k].items():
            after[gram[:-1]].append(c)
        followers.append(after)

    def p(w, history, k):
        if k == 0:
            return 1 / (len(seen) + 1)
        context = tuple(history[len(history) - k + 1 :])
        shorter = p(w, history, k - 1)
        if context not in followers[k]:
            return shorter
        total, D = sum(followers[k][context]), discounts[k]
        return (max(counts[k][(*context, w)] - D, 0) + D * len(followers[k][context]) * shorter) / total

    return lambda w, history: p(w, [PAD] * (order - 1) + list(history), order)


def corpus(seed, documents=12, vocabulary=7, longest=15):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, vocabulary, rng.integers(1, longest)) * 11 for _ in range(documents)]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_equals_the_definition(order):
    documents, unseen = corpus(order), [*corpus(99, documents=5), np.array([3, 0, 11, 5, 5]), np.array([10**12])]
    model, p = KneserNey.fit(documents, order=order), naive([d.tolist() for d in documents], order)
    for document, found in zip([*documents, *unseen], model.log_probs([*documents, *unseen]), strict=True):
        words = document.tolist()
        wanted = [math.log(p(w, words[:i])) for i, w in enumerate(words)]
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_probabilities_sum_to_one_over_the_vocabulary(order):
    documents = corpus(1)
    model = KneserNey.fit(documents, order=order)
    unknown = 5
    for history in [[], [0], [11, 22], [5, 11], documents[0].tolist(), [22, 5, 33, 44, 55, 66]]:
        last = [log_probs[-1] for log_probs in model.log_probs([[*history, w] for w in [*model.seen, unknown]])]
        assert np.exp(last).sum() == pytest.approx(1, abs=1e-12)


def test_one_token():
    model = KneserNey.fit([[4]], order=3)
    # One type at each order, discount 0.75: p_1 = 0.25 + 0.75 / 2, and twice the same again.
    assert np.exp(model.log_probs([[4]])[0][0]) == pytest.approx(0.25 + 0.75 * (0.25 + 0.75 * (0.25 + 0.75 / 2)))


def test_documents_are_alone():
    model = KneserNey.fit(corpus(3), order=4)
    a, b = corpus(4, documents=2)
    together, alone = model.log_probs([a, b]), [model.log_probs([d])[0] for d in (a, b)]
    for x, y in zip(together, alone, strict=True):
        assert np.array_equal(x, y)
    assert model.log_perplexity([a, b]) == pytest.approx([-x.mean() for x in alone])


def test_no_documents_and_empty_ones():
    model = KneserNey.fit(corpus(3), order=3)
    assert model.log_probs([]) == []
    assert model.log_perplexity([]).shape == (0,)
    assert [x.size for x in model.log_probs([[], [1, 2], []])] == [0, 2, 0]


def test_bad_input():
    with pytest.raises(RegraftError, match="no token"):
        KneserNey.fit([[]], order=3)
    with pytest.raises(RegraftError, match="order 0"):
        KneserNey.fit([[1]], order=0)
    with pytest.raises(RegraftError, match=r"document 1: .*float64"):
        KneserNey.fit([[1], [0.5]], order=2)
    with pytest.raises(RegraftError, match="document 7: no tokens"):
        KneserNey.fit([[1]], order=2).log_perplexity([[1], []], first=6)


def test_bags_count_ngrams_within_documents():
    bags = ngram_bags([[[1, 2, 1, 2], [3]], [[1, 2], [1, 2]], [[2], [1]]], order=2)
    assert bags.sum(1).tolist() == [3, 2, 0]
    assert (bags[0] * bags[1]).sum() == 4
    assert ngram_bags([[[5, 5, 6]]], order=1).max() == 2
    assert ngram_bags([[[1]], []], order=3).sum() == 0

import math

import numpy as np
import pytest
from part_world import context

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.numerics.ngram import ngram_bags
from regraft.parts.metrics.ability_matrix import AbilityMatrix, ability_matrix, order_by_similarity

# Versions: the base, after domain 0, after domain 1, after domain 2. Domain 3 is never learned.
LOSSES = np.array([[5.0, 5.0, 5.0, 9.0], [3.0, 4.5, 4.0, 8.0], [2.5, 2.0, 4.5, 7.0], [3.5, 2.5, 1.0, 6.0]])
LEARNED = (None, 0, 1, 2)
ALONE = np.array([3.0, 2.5, math.nan, math.nan])


def test_losses_by_hand():
    found = AbilityMatrix(LOSSES, LEARNED, "lower", ALONE).measures()
    assert found == pytest.approx(
        {
            "average": (3.5 + 2.5 + 1.0) / 3,
            "forgetting": ((3.5 - 2.5) + (2.5 - 2.0)) / 2,
            "backward_transfer": ((3.0 - 3.5) + (2.0 - 2.5)) / 2,
            "forward_transfer": ((5.0 - 4.5) + (5.0 - 4.5)) / 2,
            "specialisation": ((3.0 - 3.0) + (2.5 - 2.0)) / 2,
        }
    )


def test_scores_are_losses_turned_round():
    losses = AbilityMatrix(LOSSES, LEARNED, "lower", ALONE).measures()
    scores = AbilityMatrix(-LOSSES, LEARNED, "higher", -ALONE).measures()
    assert scores == pytest.approx({**losses, "average": -losses["average"]})


def test_what_has_no_domain_is_left_out():
    assert AbilityMatrix(np.array([[4.0]]), (None,)).measures() == {}
    assert AbilityMatrix(np.array([[4.0], [3.0]]), (None, 0)).measures() == {"average": 3.0}
    several = AbilityMatrix(np.array([[4.0, 4.0], [3.0, 3.5], [3.0, 2.0]]), (None, 1, 0)).measures()
    assert several == {"average": 2.5, "forgetting": -1.5, "backward_transfer": 1.5, "forward_transfer": 1.0}


def test_versions_that_learned_nothing_listed_are_allowed():
    found = AbilityMatrix(np.array([[4.0], [2.0], [3.0]]), (None, 0, None)).measures()
    assert found == {"average": 3.0, "forgetting": 1.0, "backward_transfer": -1.0}


def test_matrices_that_cannot_be():
    with pytest.raises(RegraftError, match="entry 1, 0 is nan"):
        AbilityMatrix(np.array([[1.0], [math.nan]]), (None, 0))
    for learned in [(None, 5), (None, 0, 0), (None, -1)]:
        with pytest.raises(RegraftError, match="each at most once"):
            AbilityMatrix(np.ones((len(learned), 1)), learned)
    with pytest.raises(RegraftError, match="does not fit 1 versions"):
        AbilityMatrix(np.ones((2, 1)), (None,))
    with pytest.raises(RegraftError, match="base model first"):
        AbilityMatrix(np.ones((2, 2)), (0, 1))
    for values in (np.ones(3), np.ones((0, 2))):
        with pytest.raises(RegraftError, match="ability matrix"):
            AbilityMatrix(values, ())


def long_table():
    versions, domains = ["base", "v1", "v2", "v3"], ["a", "b", "c", "d"]
    learned = dict(zip(versions, ["", "a", "b", "c"], strict=True))
    cells = [(v, learned[v], d, LOSSES[t, j]) for t, v in enumerate(versions) for j, d in enumerate(domains)]
    return Rows(dict(zip(("version", "learned", "domain", "value"), map(list, zip(*cells, strict=True)), strict=True)))


def test_the_metric_reads_long_tables():
    alone = Rows({"domain": ["b", "a"], "value": [2.5, 3.0]})
    found = ability_matrix(alone="alone")(None, context({"matrix": long_table(), "alone": alone}))
    assert found.numbers == pytest.approx(AbilityMatrix(LOSSES, LEARNED, "lower", ALONE).measures())
    assert found.tables == {"domains": ["a", "b", "c", "d"], "values": LOSSES.tolist()}
    assert "specialisation" not in ability_matrix()(None, context({"matrix": long_table()})).numbers


def test_the_metric_says_what_is_wrong_with_a_table():
    table, metric = long_table(), ability_matrix()
    with pytest.raises(RegraftError, match="version 'v3' has no value for domain 'd'"):
        metric(None, context({"matrix": table.take(slice(0, 15))}))
    with pytest.raises(RegraftError, match="two values"):
        metric(None, context({"matrix": Rows.join([table, table.take([3])])}))
    with pytest.raises(RegraftError, match="entry 15 is nan"):
        metric(None, context({"matrix": table.having(value=[*table["value"][:-1], math.nan])}))
    with pytest.raises(RegraftError, match="domain 'z'"):
        metric(None, context({"matrix": table.having(learned=[x or "z" for x in table["learned"]])}))
    with pytest.raises(RegraftError, match="no domain 'q'"):
        ability_matrix(alone="ft")(None, context({"matrix": table, "ft": Rows({"domain": ["q"], "value": [1.0]})}))
    with pytest.raises(RegraftError, match="no rows named 'ft'"):
        ability_matrix(alone="ft")(None, context({"matrix": table}))
    with pytest.raises(RegraftError, match="empty"):
        metric(None, context({"matrix": Rows({"version": [], "learned": [], "domain": [], "value": []})}))


def test_the_chain_goes_to_the_most_similar_domain_left():
    bags = np.array([[4, 0, 0, 0], [3, 1, 0, 0], [0, 1, 3, 0], [1, 3, 1, 0]])
    assert order_by_similarity(bags, start=0) == [0, 1, 3, 2]
    assert order_by_similarity(bags, start=2) == [2, 3, 1, 0]
    assert order_by_similarity(bags) == [1, 0, 3, 2]
    assert order_by_similarity(10 * bags) == order_by_similarity(bags)


def test_chains_of_odd_size():
    assert order_by_similarity(np.ones((1, 3))) == [0]
    assert order_by_similarity(np.zeros((0, 3))) == []
    assert order_by_similarity(np.ones((3, 2)), start=1) == [1, 0, 2]
    with pytest.raises(RegraftError, match="none empty"):
        order_by_similarity([[1, 0], [0, 0]])
    with pytest.raises(RegraftError, match="no domain 4"):
        order_by_similarity(np.ones((2, 2)), start=4)


def test_bags_of_text_chain_by_their_ngrams():
    dice = np.random.default_rng(0)
    texts = [[(np.arange(30) * step) % 40 + dice.integers(0, 2, 30)] for step in (1, 7, 1, 7)]
    assert order_by_similarity(ngram_bags(texts), start=0)[1] == 2

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.upweight import upweight
from regraft.worlds import imbalanced, selection
from regraft.worlds.letters import ALPHABET, encode, neural_ngram, speak, windows
from regraft.worlds.offline import context
from regraft.worlds.tables import accuracy, data_set, perceptron, split, topics


def test_every_window_is_followed_by_its_letter():
    letters = encode("To be, or not")
    rows = windows(letters, 4)
    assert rows.count == len(letters) - 4
    for i in range(rows.count):
        assert rows["x"][i].tolist() == letters[i : i + 4].tolist()
        assert rows["y"][i] == letters[i + 4]


def test_letters_outside_of_ascii_share_one_code():
    assert encode("a\té\n").tolist() == [65, ALPHABET - 1, ord("?") - 32, ALPHABET - 1]


def test_a_language_speaks_as_its_table_says():
    table = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    spoken = speak(table, 5, 9, torch.Generator().manual_seed(0))
    assert ((spoken[:, 1:] - spoken[:, :-1]) % 3 == 1).all()


def test_a_split_parts_all_rows():
    x = torch.arange(11.0)[:, None]
    train, held = split(x, torch.zeros(11, dtype=torch.long), 3)
    assert (train.count, held.count) == (9, 2)
    assert sorted([*train["x"][:, 0].tolist(), *held["x"][:, 0].tolist()]) == list(range(11))


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "iris", "diabetes"])
def test_data_sets_are_scaled_and_seeded(name):
    (train, held), again = data_set(name, 1), data_set(name, 1)
    assert torch.equal(train["x"], again.train["x"])
    whole = torch.cat([train["x"], held["x"]])
    assert whole.mean(0).abs().max() < 1e-5
    assert whole.std(0).max() < 1.001


def test_topics_can_be_told_apart():
    train, held = topics(0, documents=200, classes=2, words=50)
    centres = torch.stack([train["x"][train["y"] == c].mean(0) for c in range(2)])
    nearest = (held["x"][:, None] - centres).norm(dim=2).argmin(1)
    assert (nearest == held["y"]).float().mean() > 0.9


def test_models_are_seeded_and_leave_the_shared_dice_alone():
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    a, b = perceptron(4, 3, seed=5), perceptron(4, 3, seed=5)
    neural_ngram(5, 2, seed=1)
    assert torch.equal(torch.rand(1), wanted)
    assert all(torch.equal(a.state()[n], b.state()[n]) for n in a.state())
    rows = Rows({"x": torch.zeros(2, 4), "y": torch.tensor([0, 0])})
    assert accuracy(a, rows) in (0.0, 1.0)


@pytest.mark.parametrize(
    "choice",
    [
        selection.at_random,
        selection.by_error_norm,
        selection.by_forgetting,
        selection.by_k_centers,
        selection.by_herding,
    ],
)
def test_choices_order_all_rows(choice):
    rows = topics(0, documents=80, classes=3, words=20).train
    assert sorted(choice(rows, 0).tolist()) == list(range(rows.count))


def test_herding_takes_classes_in_turn_and_begins_at_their_means():
    x = torch.tensor([[0.0], [1.0], [5.0], [10.0], [11.0], [12.0]])
    order = selection.by_herding(Rows({"x": x, "y": torch.tensor([0, 0, 0, 1, 1, 1])}), 0)
    assert order[:2].tolist() == [1, 4]
    assert [int(i) // 3 for i in order] == [0, 1, 0, 1, 0, 1]


def test_k_centers_go_far():
    x = torch.tensor([[0.0], [0.1], [10.0], [4.0]])
    order = selection.by_k_centers(Rows({"x": x, "y": torch.zeros(4, dtype=torch.long)}), 0).tolist()
    near = {0, 1}
    assert len(near & set(order[:3])) == 1


def test_upweighted_full_batch_has_the_expected_gradient(monkeypatch):
    monkeypatch.setattr(imbalanced, "RARE", 2)
    imbalanced.languages.cache_clear()
    rows = upweight(tau=3.0)(imbalanced.languages(0).rows, context())
    found, wanted = imbalanced.full_batch_gradient(0, rows), imbalanced.expected_gradient(0, 3.0)
    imbalanced.languages.cache_clear()
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def test_moments_of_the_same_batch_each_time_have_no_variance(monkeypatch):
    monkeypatch.setattr(imbalanced, "RARE", 1)
    imbalanced.languages.cache_clear()
    rows = imbalanced.languages(0).rows
    found = imbalanced._moments(None, 0, shuffled(), rows, 3, rows.count)
    imbalanced.languages.cache_clear()
    assert found.variance < 1e-9 * float(found.mean @ found.mean)


def test_a_context_without_an_update_says_so():
    model = perceptron(4, 3, seed=0)
    rows = Rows({"x": torch.randn(5, 4), "y": torch.tensor([0, 1, 2, 0, 1])})
    grads = context(model=model).gradient(rows, nll())
    torch.nn.functional.cross_entropy(model.module(rows["x"]), rows["y"]).backward()
    assert all(torch.allclose(grads[slot.name], slot.tensor.grad) for slot in model.slots())
    with pytest.raises(RegraftError, match="no model"):
        context().gradient(rows, nll())
    with pytest.raises(RegraftError, match="no update"):
        context().again()

"""Networks side by side: their features end to end, the mean of their answers; and one network taught by them."""

from __future__ import annotations

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.core.parts import View
from regraft.core.plan import Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.models.side_by_side import side_by_side
from regraft.parts.losses.feature_distil import feature_distil
from regraft.recipes.cat import PLAIN, cat, distilled
from regraft.worlds.splits import convolutional
from regraft.worlds.tables import perceptron

ROWS = Rows({"x": torch.randn(11, 6, generator=torch.Generator().manual_seed(0)), "y": torch.arange(11) % 3})
TRAINING = Training(steps=3, batch=4, lr=0.1, optimizer="SGD", clip=None)


def network(seed: int) -> Classifier:
    return perceptron(6, 5, 4, 3, seed=seed)


def test_side_by_side_answers_as_the_mean_of_its_members_and_leaves_them() -> None:
    members = [network(0), network(1), perceptron(6, 7, 3, seed=2)]
    out = side_by_side(members).read(ROWS)
    apart = [member.read(ROWS) for member in members]
    assert out.features is not None
    assert torch.equal(out.features, torch.cat([a.features for a in apart if a.features is not None], 1))
    assert torch.allclose(out.logits, torch.stack([a.logits for a in apart]).mean(0), atol=1e-6)
    joined = side_by_side(members)
    fit(joined, PLAIN, {"new": ROWS}, TRAINING)
    assert all(torch.equal(m.read(ROWS).logits, a.logits) for m, a in zip(members, apart, strict=True))
    images = [convolutional(3, seed=seed) for seed in range(2)]
    assert side_by_side(images).read(Rows({"x": torch.randn(2, 64), "y": torch.zeros(2).long()})).logits.shape == (2, 3)
    with pytest.raises(RegraftError, match=r"the members have \[3, 2\] classes"):
        side_by_side([network(0), perceptron(6, 2, seed=0)])
    probe = Classifier(torch.nn.Linear(6, 3))
    assert torch.allclose(side_by_side([probe, probe]).read(ROWS).logits, probe.read(ROWS).logits)


def test_each_training_has_a_seed_of_its_own() -> None:
    three = cat(network, {"new": ROWS}, TRAINING, n=3)
    alone = network(2)
    fit(alone, PLAIN, {"new": ROWS}, Training(steps=3, batch=4, lr=0.1, optimizer="SGD", clip=None, seed=2))
    features = three.read(ROWS).features
    assert features is not None
    assert torch.equal(features[:, 8:], alone.read(ROWS).features)
    with pytest.raises(RegraftError, match="n is 0"):
        cat(network, {"new": ROWS}, TRAINING, n=0)


def test_a_student_learns_a_linear_map_to_the_teachers_features() -> None:
    teacher, student = side_by_side([network(0), network(1)]), network(2)
    before = {name: tensor.clone() for name, tensor in teacher.state().items()}
    imitate = feature_distil(of="teacher")
    plan = Plan(PLAIN.feeds, (Weighted(imitate),), trainables=(imitate,))
    others = {"teacher": teacher.copy()}
    A = fit(student, plan, {"new": ROWS}, TRAINING, others=others).memory["feature_distil"]["weight"]
    assert A.shape == (8, 4)
    assert "head.feature_distil.weight" not in student.state()
    f, phi = student.read(ROWS).features, teacher.read(ROWS).features
    assert f is not None
    assert phi is not None
    record = fit(
        student, plan, {"new": ROWS}, Training(steps=1, batch=11, lr=1e-30, log_every=1), others=others,
        memory={"feature_distil": {"weight": A}},
    ).curve[0]  # fmt: skip
    expected = ((f @ A.T - phi).square().sum(1) / phi.square().sum(1)).mean()
    assert record["feature_distil"] == pytest.approx(float(expected.detach()), rel=1e-5)
    distilled(student, teacher, {"new": ROWS}, TRAINING)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state().items())
    with pytest.raises(RegraftError, match="4 features cannot be held to 8"):
        fit(student, Plan(PLAIN.feeds, (Weighted(imitate),)), {"new": ROWS}, TRAINING, others=others)
    assert View(student, ROWS, others).by("teacher").model is others["teacher"]

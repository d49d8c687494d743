"""Posteriors over a head: divergence, distance and density against torch's, and models drawn for a preference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical as Odds
from torch.distributions import Independent, MixtureSameFamily, Normal, kl_divergence

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import domains
from regraft.engine import fit as engine
from regraft.engine.edits import apply, still
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.mean_field import Gaussians, distance, divergence, log_density
from regraft.parts.edits.credal_set import credal_set
from regraft.parts.edits.preference import preference
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.mean_field import mean_field
from regraft.recipes.strategy import live, method_named

WIDTH, CLASSES = 4, 3
N = WIDTH * CLASSES + CLASSES


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> Classifier:
    torch.manual_seed(1)
    return Classifier(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)).double())


def table(count: int, seed: int = 0) -> Rows:
    return Rows({"x": drawn(count, WIDTH, seed=seed), "y": torch.arange(count) % CLASSES, "row": torch.arange(count)})


def test_divergence_distance_and_density_are_the_closed_forms() -> None:
    mu, sigma = drawn(2, 5), drawn(2, 5, seed=1).exp()
    q, p = (Independent(Normal(mu[i], sigma[i]), 1) for i in (0, 1))
    assert torch.allclose(divergence(mu[0], sigma[0].log(), mu[1], sigma[1]), kl_divergence(q, p), atol=1e-10)
    apart = (mu[0] - mu[1]).square().sum() + (sigma[0] - sigma[1]).square().sum()
    assert torch.allclose(distance(Gaussians(mu[0], sigma[0]), Gaussians(mu, sigma))[1], apart.sqrt(), atol=1e-10)
    odds, theta = torch.tensor([0.3, 0.7]).double(), drawn(7, 5, seed=2)
    mixture = MixtureSameFamily(Odds(odds), Independent(Normal(mu, sigma), 1))
    assert torch.allclose(log_density(theta, Gaussians(mu, sigma), odds), mixture.log_prob(theta), atol=1e-10)


def test_a_step_has_the_gradient_of_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"mu": drawn(N, seed=3), "sigma": drawn(N, seed=4).exp()}
    e = drawn(6, CLASSES, seed=5)
    monkeypatch.setattr(torch, "randn_like", lambda _: e)
    q, rows, model = mean_field(), table(6), network()
    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), (Weighted(q),), (q,))
    seen: list[Tensor] = []
    read = Classifier.read
    monkeypatch.setattr(Classifier, "read", lambda self, r: (seen.append(r["row"]), read(self, r))[1])
    training = Training(steps=1, batch=6, lr=1.0, optimizer="SGD", clip=None, explode=1e9)
    body = {n: t.clone() for n, t in model.state().items() if n.startswith("0.")}
    found = fit(model, plan, {"new": rows}, training, memory={"mean_field": {"0": left}}).memory["mean_field"]["0"]

    mu, log_sigma = left["mu"].clone().requires_grad_(), left["sigma"].log().requires_grad_()
    at = rows.take(seen[0])
    h = torch.tanh(at["x"] @ body["0.weight"].T + body["0.bias"])
    W, b = (t.split([WIDTH * CLASSES, CLASSES]) for t in (mu, (2 * log_sigma).exp()))
    variance = h.square() @ b[0].view(CLASSES, WIDTH).T + b[1]
    logits = h @ W[0].view(CLASSES, WIDTH).T + W[1] + e * variance.sqrt()
    prior = Normal(left["mu"], left["sigma"])
    bound = nn.functional.cross_entropy(logits, at["y"]) + kl_divergence(Normal(mu, log_sigma.exp()), prior).sum() / 6
    slopes = torch.autograd.grad(bound, (mu, log_sigma))
    assert torch.allclose(found["mu"], left["mu"] - slopes[0], atol=1e-10)
    assert torch.allclose(found["sigma"].log(), left["sigma"].log() - slopes[1], atol=1e-10)


def test_the_draws_have_the_moments_of_the_weights() -> None:
    mu, sigma = drawn(N), 0.3 * drawn(N, seed=1).exp()
    model = network()
    part = mean_field()
    memory = {"mean_field": {"0": {"mu": mu, "sigma": sigma}}}
    run: Any = part.begin(still({"student": model}, {}, memory, name="test", seed=0))
    run.install(model)
    h = drawn(1, WIDTH, seed=2)
    said = model.head(h.expand(200_000, -1)).detach()
    W, S = mu[: WIDTH * CLASSES].view(CLASSES, WIDTH), sigma[: WIDTH * CLASSES].view(CLASSES, WIDTH)
    assert torch.allclose(said.mean(0), h[0] @ W.T + mu[-CLASSES:], atol=0.01)
    assert torch.allclose(said.var(0), h[0].square() @ S.T.square() + sigma[-CLASSES:].square(), rtol=0.02)
    run.fold(model)
    assert torch.allclose(model.head(h)[0], h[0] @ W.T + mu[-CLASSES:], atol=1e-12)


# --- what is kept, and what is drawn from it


def posterior(seed: int) -> dict[str, Tensor]:
    return {"mu": drawn(N, seed=seed), "sigma": 0.1 * drawn(N, seed=seed + 50).exp()}


def test_a_posterior_that_is_near_is_not_kept_and_hands_over_its_prior() -> None:
    model, memory = network(), {"mean_field": {"0": posterior(0), "1": posterior(1)}}
    memory = apply(credal_set(0.05), model, {}, memory)
    near = {"mu": posterior(1)["mu"] + 0.01, "sigma": posterior(1)["sigma"]}
    memory = apply(credal_set(0.05), model, {}, {**memory, "mean_field": {"0": posterior(2), "1": near}})
    assert memory["credal_set"]["tasks"] == [[0, 1], [2, 1]]
    assert len(memory["credal_set"]["mu"]) == 3
    assert torch.equal(memory["mean_field"]["1"]["mu"], posterior(1)["mu"])


def kept(*seeds: int) -> dict[str, Any]:
    each = [posterior(seed) for seed in seeds]
    mu, sigma = (torch.stack([q[name] for q in each]) for name in ("mu", "sigma"))
    return {"credal_set": {"mu": mu, "sigma": sigma, "tasks": [[i] for i in range(len(seeds))]}}


def written(part: preference, memory: dict[str, Any], seed: int = 0) -> Tensor:
    model = network()
    apply(part, model, {}, memory, seed=seed)
    state = model.state()
    return torch.cat([state["2.weight"].flatten(), state["2.bias"]])


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.9])
def test_of_one_gaussian_the_region_is_the_ball_of_a_chi_square(alpha: float) -> None:
    from scipy.stats import chi2

    memory, edge = kept(0), chi2.ppf(1 - alpha, N)
    part = preference((1.0,), alpha, draws=20_000)
    q = posterior(0)
    far = [float(((written(part, memory, seed) - q["mu"]) / q["sigma"]).square().sum()) for seed in range(40)]
    assert max(far) < 1.05 * edge
    assert max(far) > 0.5 * edge  # it is drawn in all of the region


def test_a_preference_draws_its_tasks_at_their_odds_and_the_same_by_the_same_seed() -> None:
    memory, mu = kept(0, 1, 2), torch.stack([posterior(s)["mu"] for s in range(3)])
    part = preference((0.25, 0.75, 0.0), draws=200)
    nearest = [int((written(part, memory, seed) - mu).norm(dim=1).argmin()) for seed in range(200)]
    assert 2 not in nearest
    assert abs(nearest.count(1) / 200 - 0.75) < 0.1
    assert torch.equal(written(part, memory, 7), written(part, memory, 7))
    assert not torch.equal(written(part, memory, 7), written(part, memory, 8))
    mean = written(preference((0.25, 0.75, 0.0), combine="mean"), memory)
    assert torch.allclose(mean, 0.25 * mu[0] + 0.75 * mu[1], atol=1e-12)
    centre = torch.stack([written(preference((0.25, 0.75, 0.0), combine="average"), memory, s) for s in range(300)])
    spread = 0.25 * posterior(0)["sigma"] + 0.75 * posterior(1)["sigma"]
    assert bool(((centre.mean(0) - mean).abs() < 5 * spread / math.sqrt(300)).all())


def test_a_preference_trains_nothing_and_there_is_one_training_a_member_and_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, advance = 0, engine._Run.advance

    def counted(run: Any, meter: Any) -> None:
        nonlocal steps
        steps += 1
        advance(run, meter)

    monkeypatch.setattr(engine._Run, "advance", counted)
    stream = domains(table(20), table(9, 1), [lambda x: x, lambda x: -x])
    model, training = network(), Training(steps=1, batch=5, lr=0.1)
    found = live(model, stream, method_named("ibcl")(m=2), training)
    assert steps == 2 * 2 * 4
    for i in range(11):
        apply(preference((i / 10, 1 - i / 10)), model.copy(), {}, found.memory, seed=i)
    assert steps == 2 * 2 * 4
    assert len(found.memory["credal_set"]["mu"]) == 4


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (preference((0.5, 0.5)), "3 tasks"),
        (preference(), "no posteriors"),
        (credal_set(), "no posterior"),
    ],
)
def test_what_cannot_be_served_is_said(part: Any, says: str) -> None:
    with pytest.raises(RegraftError, match=says):
        apply(part, network(), {}, kept(0, 1, 2) if "tasks" in says else {})


@pytest.mark.parametrize("knobs", [{"w": (0.5, 0.6)}, {"w": (-0.5, 1.5)}, {"alpha": 1.0}, {"draws": 0}])
def test_knobs_are_checked(knobs: dict[str, Any]) -> None:
    with pytest.raises(RegraftError, match=next(iter(knobs))):
        preference(**knobs)

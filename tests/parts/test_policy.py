"""Losses over answers: their formulas written out, and the libraries that people know them from."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, View
from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.numerics.answers import judged_blocks
from regraft.numerics.padded import Padded
from regraft.parts.losses.coverage import coverage
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.losses.kto import kto
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.transforms.group_advantage import group_advantage

PLACES, PROMPT, TOKENS = 9, 3, 50
LENGTHS = (6, 1, 4, 5)


def network(seed: int) -> CausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=TOKENS - 1,
        pad_token_id=0,
    )
    model = CausalLM(LlamaForCausalLM(config).double().eval())
    for p in model.module.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return model


def context(**others: CausalLM) -> Context:
    nothing: Any = None
    rest = (torch.Generator(), lambda: Progress(0, 1), nothing, nothing, nothing)
    return Context({"student": network(0), "before": network(1), **others}, {}, {}, *rest)


def blocks(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Rows:
    """A prompt of 3 tokens and an answer in every row, of which the answer counts."""
    dice = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, TOKENS - 1, (len(lengths), PLACES + 1), generator=dice)
    place = torch.arange(PLACES)
    ends = PROMPT + torch.tensor(lengths)[:, None]
    counts = ((place >= PROMPT - 1) & (place < ends - 1)).double()
    columns = {"input_ids": ids[:, :-1], "targets": ids[:, 1:], "counts": counts}
    return Rows({**columns, "positions": place.expand(len(ids), -1)})


def log_probs(model: CausalLM, rows: Rows) -> Tensor:
    logits = model.read(rows).logits
    found: Tensor = logits.log_softmax(-1).gather(2, rows["targets"][..., None])[..., 0]
    return found


def noise(seed: int = 3) -> Tensor:
    return 0.3 * torch.randn(len(LENGTHS), PLACES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(ctx: Context, rows: Rows) -> View:
    return View(ctx.models["student"], rows, ctx.models)


A = torch.tensor([1.0, -2.0, 0.5, -0.3], dtype=torch.float64)


@pytest.mark.parametrize("per", ["row", "token", 7])
@pytest.mark.parametrize("ratio", ["token", "mean", "answer"])
@pytest.mark.parametrize("clip", [None, (0.2, 0.28)])
def test_the_policy_gradient_is_its_formula(per: Any, ratio: Any, clip: Any) -> None:
    ctx, rows = context(), blocks()
    pi, c = log_probs(network(0), rows), rows["counts"]
    old = pi.detach() + noise()
    part = policy_gradient(clip=clip, per=per, ratio=ratio, kl=0.1, entropy=0.01, unbiased=ratio == "token")
    running = part.begin(ctx)
    seen = view(ctx, rows.having(advantage=A, old_log_probs=old))
    found = running.loss(seen)
    for r in range(len(LENGTHS)):
        logs = (pi - old)[r]
        if ratio != "token":
            logs = (
                (logs * c[r]).sum() / (c[r].sum() if ratio == "mean" else 1) * torch.ones(PLACES, dtype=torch.float64)
            )
        total = torch.zeros(())
        for t in range(PLACES):
            rho, surrogate = logs[t].exp(), logs[t].exp() * A[r]
            if clip is not None:
                surrogate = torch.minimum(surrogate, rho.clamp(1 - clip[0], 1 + clip[1]) * A[r])
            q = (log_probs(network(1), rows)[r, t] - pi[r, t]).exp()
            p = network(0).read(rows).logits[r, t].softmax(-1)
            H = -(p * p.log()).sum()
            k = (rho if ratio == "token" else 1) * (q - q.log() - 1)
            total = total + c[r, t] * (-surrogate + 0.1 * k - 0.01 * H)
        n = per if isinstance(per, int) else c[r].sum()
        assert found[r].item() == pytest.approx((total / n).item(), abs=1e-10)
    weight = running.weight(seen)
    assert weight is None if per != "token" else torch.equal(weight, c.sum(1))


def test_on_its_own_rows_it_is_reinforce() -> None:
    ctx, rows = context(), blocks().having(advantage=A)
    student = ctx.models["student"]
    policy_gradient(clip=None, per=1).begin(ctx).loss(view(ctx, rows)).sum().backward()
    found = [p.grad.clone() for p in student.module.parameters()]
    student.module.zero_grad()
    (-(A * (log_probs(student, rows) * rows["counts"]).sum(1))).sum().backward()  # type: ignore[arg-type]
    assert all(torch.allclose(f, p.grad) for f, p in zip(found, student.module.parameters(), strict=True))


def test_a_clip_may_lie_around_another_policy() -> None:
    ctx, rows = context(), blocks()
    old, centre = log_probs(network(0), rows).detach() + noise(), noise(5)
    rows = rows.having(advantage=A, old_log_probs=old, centre=centre)
    found = policy_gradient(clip=(0.1, 0.1), per=1).begin(ctx).loss(view(ctx, rows))
    rho, c, a = (log_probs(network(0), rows) - old).exp(), rows["counts"], A[:, None]
    clipped = torch.maximum(torch.minimum(rho, centre.exp() + 0.1), centre.exp() - 0.1)
    assert torch.allclose(found, (torch.maximum(-rho * a, -clipped * a) * c).sum(1))
    still = rows.having(centre=torch.zeros_like(centre))
    plain = policy_gradient(clip=(0.1, 0.1)).begin(ctx).loss(view(ctx, rows.only(*(set(rows) - {"centre"}))))
    assert torch.equal(policy_gradient(clip=(0.1, 0.1)).begin(ctx).loss(view(ctx, still)), plain)


def test_the_temperature_is_that_of_the_sampling() -> None:
    ctx, rows = context(), blocks().having(advantage=A)
    found = policy_gradient(temperature=0.5, entropy=0.1).begin(ctx).loss(view(ctx, rows))
    hot = network(0)
    hot.module.lm_head.weight.data *= 2
    ctx.models["student"] = hot  # type: ignore[index]
    assert torch.allclose(found, policy_gradient(entropy=0.1).begin(ctx).loss(view(ctx, rows)))


def pairs() -> tuple[Rows, Rows, Rows]:
    """Answers preferred, the others, and both in one block."""
    good, bad = blocks((5, 1, 3, 4)), blocks((2, 4, 6, 1), seed=1)
    both = {n: torch.cat([good[n], bad[n]], 1) for n in ("input_ids", "targets", "counts", "positions")}
    side = torch.cat([torch.ones_like(good["counts"]), -torch.ones_like(bad["counts"])], 1)
    return good, bad, Rows({**both, "side": side})


def summed(model: CausalLM, rows: Rows, per: str) -> Tensor:
    c = rows["counts"]
    return (log_probs(model, rows) * c).sum(1) / (c.sum(1) if per == "token" else 1)


@pytest.mark.parametrize("per", ["row", "token"])
@pytest.mark.parametrize("by", ["dpo", "ipo", "hinge"])
def test_preferences_are_their_formula(by: Any, per: Any) -> None:
    good, bad, both = pairs()
    beta, ctx = 0.3, context()
    m = sum(
        sign * (summed(network(0), rows, per) - summed(network(1), rows, per)) for sign, rows in ((1, good), (-1, bad))
    )
    wanted = {"dpo": -F.logsigmoid(beta * m), "ipo": (m - 1 / (2 * beta)) ** 2, "hinge": (1 - beta * m).relu()}[by]  # type: ignore[arg-type]
    found = direct_preference(beta=beta, by=by, per=per).begin(ctx).loss(view(ctx, both))
    assert torch.allclose(found, wanted, atol=1e-10)


def test_preferences_without_a_reference_and_with_wrong_pairs() -> None:
    good, bad, both = pairs()
    ctx = context()
    m = summed(network(0), good, "token") - summed(network(0), bad, "token")
    found = direct_preference(beta=2.0, per="token", gamma=0.5, reference=None).begin(ctx).loss(view(ctx, both))
    assert torch.allclose(found, -F.logsigmoid(2 * m - 0.5))
    found = direct_preference(beta=2.0, per="token", wrong=0.1, reference=None).begin(ctx).loss(view(ctx, both))
    assert torch.allclose(found, -0.9 * F.logsigmoid(2 * m) - 0.1 * F.logsigmoid(-2 * m))


def advantages(R: list[float], prompt: list[int], **knobs: Any) -> list[float]:
    rows = Rows({"group": torch.tensor(prompt), "reward": torch.tensor(R)})
    found: list[float] = group_advantage(**knobs)(rows, context())["advantage"].tolist()
    return found


def test_advantages_of_a_group() -> None:
    R, prompt = [1.0, 0.0, 5.0, 0.0, 1.0, 5.0, 3.0], [4, 4, 2, 4, 4, 2, 9]
    s = torch.tensor([1.0, 0, 0, 1]).std().item()
    scaled = [0.5 / (s + 1e-4), -0.5 / (s + 1e-4), 0, -0.5 / (s + 1e-4), 0.5 / (s + 1e-4), 0, 0]
    assert advantages(R, prompt) == pytest.approx(scaled)
    assert advantages(R, prompt, scaled=False) == pytest.approx([0.5, -0.5, 0, -0.5, 0.5, 0, 0])
    assert advantages(R, prompt, by="others") == pytest.approx([2 / 3, -2 / 3, 0, -2 / 3, 2 / 3, 0, 0])


def test_rewards_that_are_equal_but_for_rounding_stay_equal() -> None:
    assert advantages([0.1] * 7, [0] * 7) == [0.0] * 7
    assert advantages([], []) == []


def test_a_reward_that_is_no_number() -> None:
    with pytest.raises(RegraftError, match="row 1 has the reward nan"):
        advantages([1.0, float("nan")], [0, 0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: policy_gradient(clip=(2.0, 0.1)),
        lambda: policy_gradient(per="all"),  # type: ignore[arg-type]
        lambda: policy_gradient(per=0),
        lambda: policy_gradient(ratio="all"),  # type: ignore[arg-type]
        lambda: policy_gradient(temperature=0.0),
        lambda: policy_gradient(kl=-1.0),
        lambda: direct_preference(beta=0.0),
        lambda: direct_preference(by="kto"),  # type: ignore[arg-type]
        lambda: direct_preference(per="word"),  # type: ignore[arg-type]
        lambda: direct_preference(wrong=0.5),
        lambda: direct_preference(by="ipo", gamma=1.0),
        lambda: group_advantage(by="all")(Rows({"group": torch.zeros(1), "reward": torch.zeros(1)}), context()),
    ],
)
def test_knobs_that_cannot_be(make: Any) -> None:
    with pytest.raises(RegraftError):
        make()


@pytest.mark.parametrize("N", [1, 2, 16, 4096])
def test_coverage_is_the_probability_that_n_tries_hold_the_answer(N: int) -> None:
    ctx, rows = context(), blocks()
    p = (log_probs(network(0), rows) * rows["counts"]).sum(1).exp()
    found = coverage(N=N).begin(ctx).loss(view(ctx, rows))
    assert torch.allclose(found, -torch.log(1 - (1 - p) ** N), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("N", [1, 16, 1 << 20])
@pytest.mark.parametrize("log_p", [-0.0, -1e-9, -1e-3, -0.7, -3.0, -12.0, -40.0, -300.0])
def test_the_gradient_of_coverage_is_that_of_cross_entropy_times_a_factor(N: int, log_p: float) -> None:
    logit = torch.tensor([log_p], dtype=torch.float64, requires_grad=True)

    class Seen:
        target_nll = -logit[:, None]
        out = SimpleNamespace(counts=None)

    made: Any = coverage(N=N)
    made.loss(Seen()).sum().backward()
    p = math.exp(log_p)
    miss = -math.expm1(N * math.log1p(-p)) if p < 1 else 1.0
    F_N = N * p * (1 - p) ** (N - 1) / miss if miss else 1.0
    assert logit.grad is not None
    assert -float(logit.grad) == pytest.approx(F_N, rel=1e-5, abs=1e-9)


def judged(lengths: tuple[int, ...] = (3, 2, 4, 3, 1)) -> Rows:
    """Good and bad answers after prompts of different length."""
    dice = torch.Generator().manual_seed(5)

    def ids(count: int) -> list[int]:
        found: list[int] = torch.randint(1, TOKENS - 1, (count,), generator=dice).tolist()
        return found

    prompts, answers = [ids(1 + i % 3) for i in range(len(lengths))], [ids(n) for n in lengths]
    good = torch.arange(len(lengths)) % 3 != 1
    rows = judged_blocks(Padded.of(prompts), Padded.of(answers), good)
    other = [answers[i - 1] for i in range(len(lengths))]
    for r in range(len(lengths)):
        told = [rows["targets"][r][rows[name][r] != 0].tolist() for name in ("side", "mismatched")]
        assert told == [answers[r], other[r]]
        assert rows["side"][r].sum().sign() == (1 if good[r] else -1)
    return rows.having(**{name: rows[name].double() for name in ("counts", "side", "mismatched")})


@pytest.mark.parametrize("turned", [1.0, -1.0])
def test_kto_is_its_formula(turned: float) -> None:
    ctx, rows = context(), judged()
    policy, reference = (network(0), network(1)) if turned > 0 else (network(1), network(0))
    ctx.models["student"], ctx.models["before"] = policy, reference  # type: ignore[index]
    seen, running = view(ctx, rows), kto(beta=0.7, good=0.5, bad=2.0).begin(ctx)
    running.pooled(running.statistic(seen).mean())
    lead = log_probs(policy, rows) - log_probs(reference, rows)
    kl = (lead * rows["mismatched"]).sum(1).mean()
    assert running.z == kl.clamp(min=0.0).detach()
    r = (lead * rows["side"].abs()).sum(1)
    for each, mine, side in zip(r, running.loss(seen), rows["side"].sum(1), strict=True):
        z = kl.clamp(min=0.0)
        wanted = 0.5 * torch.sigmoid(-0.7 * (each - z)) if side > 0 else 2.0 * torch.sigmoid(-0.7 * (z - each))
        assert torch.allclose(mine, wanted)


def test_a_mean_over_the_step_does_not_depend_on_micro_batches() -> None:
    from regraft.core.plan import Feed, Plan, Weighted
    from regraft.engine.fit import fit
    from regraft.engine.training import Training
    from regraft.parts.samplers.shuffled import shuffled

    found = []
    for micro in (None, 1, 2, 4):
        model = network(1)
        plan = Plan((Feed("new", shuffled()),), (Weighted(kto(beta=0.5)),))
        training = Training(6, 4, 0.01, micro_batch=micro, log_every=1)
        rows = judged()
        fitted = fit(model, plan, {"new": rows.having(weight=torch.linspace(0.5, 2, rows.count))}, training)
        found.append((model.state(), [record["kto"] for record in fitted.curve]))
    (weights, losses), *others = found
    assert len(set(losses)) == 6
    for other, its in others:
        assert its == pytest.approx(losses, rel=1e-9)
        assert all(torch.allclose(weights[n], other[n], rtol=1e-9, atol=1e-12) for n in weights)


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"good": -1.0}, {"bad": -0.1}])
def test_knobs_of_kto(wrong: dict[str, float]) -> None:
    with pytest.raises(RegraftError):
        kto(**wrong)

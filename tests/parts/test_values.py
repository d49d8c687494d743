"""A value head, the advantages that are made of it, the loss that teaches it: PPO; and ReMax, which needs none."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from test_policy import LENGTHS, PLACES, blocks, context, log_probs, network, noise, view
from torch import Tensor, nn

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics import decoding
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.losses.value import value
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.lora import lora
from regraft.parts.trainables.value_head import value_head
from regraft.parts.transforms.gae import gae
from regraft.parts.transforms.greedy_advantage import greedy_advantage
from regraft.parts.transforms.moving_advantage import moving_advantage
from regraft.worlds import llama

REWARDS = torch.tensor([1.0, 0.0, 0.1, 1.0])


def with_head(ctx: Context) -> nn.Linear:
    """A head of random weights in the student of a context."""
    student: Any = ctx.models["student"]
    value_head().begin(ctx).install(student)
    head: nn.Linear = student.last_layer.value_head
    dice = torch.Generator().manual_seed(7)
    head.weight.data = torch.randn(head.weight.shape, generator=dice, dtype=torch.float64)
    head.bias.data.fill_(0.3)
    return head


def said(ctx: Context, rows: Rows) -> Tensor:
    """V, [rows, places]."""
    student: Any = ctx.models["student"]
    features = student.read(rows).features
    found: Tensor = features @ student.last_layer.value_head.weight[0] + student.last_layer.value_head.bias
    return found


# --- the head


def test_it_begins_at_zero_as_an_adapter_and_is_taken_out() -> None:
    ctx = context()
    student: Any = ctx.models["student"]
    names = [name for name, _ in student.module.named_modules()]
    before = student.read(blocks()).logits
    run = value_head(lr=3.0).begin(ctx)
    run.install(student)
    head = student.last_layer.value_head
    assert not head.weight.any()
    assert not head.bias.any()
    slots = {slot.name: slot for slot in student.slots()}
    own = slots["lm_head.value_head.weight"]
    assert own.kind == "adapter"
    assert run.multiplier(own) == 3.0
    assert run.multiplier(slots["lm_head.weight"]) == 1.0
    assert torch.equal(student.read(blocks()).logits, before)
    run.fold(student)
    assert [name for name, _ in student.module.named_modules()] == names
    assert run.leave() == {}


def test_where_there_is_none_it_is_said() -> None:
    rows = blocks().having(returns=noise())
    with pytest.raises(RegraftError, match=r"no value head.*value_head\(\) among the trainables"):
        value(clip=None).begin(context()).loss(view(context(), rows))
    with pytest.raises(RegraftError, match="gae: the network has no value head"):
        gae(beta=0.0)(blocks().having(reward=REWARDS), context())


# --- the advantages


def recursion(r: list[float], V: list[float], gamma: float, lam: float) -> list[float]:
    """A of one row, from its end."""
    found, after, V = list[float](), 0.0, [*V, 0.0]
    for t in reversed(range(len(r))):
        after = r[t] + gamma * V[t + 1] - V[t] + gamma * lam * after
        found.insert(0, after)
    return found


@pytest.mark.parametrize(
    ("gamma", "lam", "beta"), [(1.0, 0.95, 0.1), (0.9, 0.5, 0.0), (0.95, 1.0, 0.3), (1.0, 0.0, 0.1)]
)
def test_advantages_are_the_recursion(gamma: float, lam: float, beta: float) -> None:
    ctx, rows = context(), blocks()
    with_head(ctx)
    found = gae(gamma, lam, beta, whiten=False, chunk=3)(rows.having(reward=REWARDS), ctx)
    apart = log_probs(network(0), rows) - log_probs(network(1), rows)
    V = said(ctx, rows)
    for row in range(len(LENGTHS)):
        own = rows["counts"][row] > 0
        r = (-beta * apart[row][own]).tolist()
        r[-1] += float(REWARDS[row])
        wanted = torch.tensor(recursion(r, V[row][own].tolist(), gamma, lam))
        assert torch.allclose(found["advantage"][row][own], wanted, atol=1e-5)
        assert torch.allclose(found["returns"][row][own], wanted + V[row][own].float(), atol=1e-5)
        assert torch.allclose(found["values"][row][own], V[row][own].float(), atol=1e-6)
        for name in ("advantage", "returns", "values"):
            assert not found[name][row][~own].any()


def test_with_lam_1_returns_are_what_came_and_with_no_value_it_is_reinforce() -> None:
    ctx, rows = context(), blocks().having(reward=REWARDS)
    head = with_head(ctx)
    found = gae(0.9, 1.0, 0.0, whiten=False)(rows, ctx)
    left = found["counts"].flip(1).cumsum(1).flip(1) - 1  # tokens that follow
    monte_carlo = REWARDS[:, None] * 0.9**left * found["counts"]
    assert torch.allclose(found["returns"].double(), monte_carlo, atol=1e-6)
    assert torch.allclose(found["advantage"].double(), monte_carlo - found["values"], atol=1e-6)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    plain = gae(1.0, 1.0, 0.0, whiten=False)(rows, ctx)
    assert torch.equal(plain["advantage"], (REWARDS[:, None] * rows["counts"]).float())


def test_tokens_that_do_not_count_are_as_if_they_were_not_there() -> None:
    ctx = context()
    with_head(ctx)
    rows = blocks().having(reward=REWARDS)
    gap = rows["counts"].clone()
    gap[0, 4] = 0.0
    found = gae(0.9, 0.7, 0.0, whiten=False)(rows.having(counts=gap), ctx)
    own = gap[0] > 0
    r = [0.0] * int(own.sum())
    r[-1] = float(REWARDS[0])
    wanted = recursion(r, said(ctx, rows)[0][own].tolist(), 0.9, 0.7)
    assert torch.allclose(found["advantage"][0][own], torch.tensor(wanted), atol=1e-5)
    nothing = gae(beta=0.0)(rows.having(counts=torch.zeros_like(gap)), ctx)
    assert not nothing["advantage"].any()
    assert not nothing["returns"].any()


def test_whitened_advantages_have_mean_0_and_deviation_1() -> None:
    ctx = context()
    head = with_head(ctx)
    rows = blocks().having(reward=REWARDS)
    plain, white = (gae(whiten=w)(rows, ctx) for w in (False, True))
    own = rows["counts"] > 0
    each = plain["advantage"][own]
    assert torch.allclose(white["advantage"][own], (each - each.mean()) / each.std(), atol=1e-5)
    assert torch.equal(white["returns"], plain["returns"])
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    equal = gae(beta=0.0, lam=1.0)(rows.having(reward=torch.full((4,), 0.7)), ctx)
    assert not equal["advantage"].any(), "all equal: nothing to learn"


def test_one_row_of_one_token() -> None:
    ctx = context()
    with_head(ctx)
    rows = blocks((1,)).having(reward=torch.tensor([2.0]))
    found = gae(beta=0.0, whiten=False)(rows, ctx)
    own = rows["counts"] > 0
    assert torch.allclose(found["advantage"][own], 2.0 - said(ctx, rows)[own].float(), atol=1e-6)
    assert not gae(beta=0.0)(rows, ctx)["advantage"].any()


def test_a_reward_that_is_no_number() -> None:
    ctx = context()
    with_head(ctx)
    with pytest.raises(RegraftError, match="row 2 has the reward nan"):
        gae(beta=0.0)(blocks().having(reward=torch.tensor([0.0, 1.0, float("nan"), 0.0])), ctx)


# --- the loss


@pytest.mark.parametrize("per", ["row", "token", 7])
@pytest.mark.parametrize("clip", [None, 0.2])
def test_the_value_loss_is_its_formula(per: Any, clip: float | None) -> None:
    ctx, rows = context(), blocks()
    with_head(ctx)
    V, R, old = said(ctx, rows), noise(1), said(ctx, rows).detach() + noise(2)
    running = value(clip=clip, per=per).begin(ctx)
    seen = view(ctx, rows.having(returns=R, values=old))
    found = running.loss(seen)
    for r in range(len(LENGTHS)):
        total = 0.0
        for t in range(PLACES):
            error = (V[r, t] - R[r, t]).item() ** 2
            if clip is not None:
                near = min(max(V[r, t].item(), old[r, t].item() - clip), old[r, t].item() + clip)
                error = max(error, (near - R[r, t].item()) ** 2)
            total += float(rows["counts"][r, t]) * 0.5 * error
        n = per if isinstance(per, int) else float(rows["counts"][r].sum())
        assert found[r].item() == pytest.approx(total / n, abs=1e-10)
    weight = running.weight(seen)
    assert weight is None if per != "token" else torch.equal(weight, rows["counts"].sum(1))


def test_ppo_is_its_whole_formula() -> None:
    """Of one batch: the gradient of the plan's two losses, against PPO written out from rewards to loss."""
    gamma, lam, beta, eps, alpha = 0.97, 0.9, 0.1, 0.2, 0.5
    ctx, rows = context(), blocks()
    with_head(ctx)
    student: Any = ctx.models["student"]
    old = log_probs(network(0), rows).detach() + noise()
    made = gae(gamma, lam, beta)(rows.having(reward=REWARDS, old_log_probs=old), ctx)
    nn.init.constant_(student.last_layer.value_head.bias, -0.1)  # the head has moved since
    made = made.having(**{name: made[name].double() for name in ("advantage", "returns", "values")})
    seen = view(ctx, made)
    parts = ((policy_gradient(clip=(eps, eps), per="token"), 1.0), (value(eps, "token"), alpha))
    total = torch.zeros((), dtype=torch.float64)
    for part, weight in parts:
        run = part.begin(ctx)
        each, by = run.loss(seen), run.weight(seen)
        assert by is not None
        total = total + weight * (each * by).sum() / by.sum()
    mine = torch.autograd.grad(total, list(student.module.parameters()), retain_graph=True)

    apart = log_probs(network(0), rows) - log_probs(network(1), rows)
    pi, V = log_probs(student, rows), said(ctx, rows)
    V_old = V.detach() + 0.4
    own = rows["counts"] > 0
    advantages, returns, at = [], [], []
    for row in range(len(LENGTHS)):
        r = (-beta * apart[row][own[row]]).tolist()
        r[-1] += float(REWARDS[row])
        each_A = recursion(r, V_old[row][own[row]].tolist(), gamma, lam)
        advantages += each_A
        returns += [a + v for a, v in zip(each_A, V_old[row][own[row]].tolist(), strict=True)]
        at += [(row, t) for t in own[row].nonzero()[:, 0].tolist()]
    A_t = torch.tensor(advantages, dtype=torch.float64)
    A_t = (A_t - A_t.mean()) / A_t.std()
    policy, error = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for (row, t), a, R in zip(at, A_t, returns, strict=True):
        ratio = (pi[row, t] - old[row, t]).exp()
        policy = policy - torch.minimum(ratio * a, ratio.clamp(1 - eps, 1 + eps) * a)
        near = V_old[row, t] + (V[row, t] - V_old[row, t]).clamp(-eps, eps)
        error = error + torch.maximum((V[row, t] - R) ** 2, (near - R) ** 2) / 2
    wanted = (policy + alpha * error) / len(at)
    assert total.item() == pytest.approx(wanted.item(), abs=1e-6)
    its = torch.autograd.grad(wanted, list(student.module.parameters()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, its, strict=True))


# --- in a plan


@transform
def low(rows: Rows, ctx: Context) -> Rows:
    """The share of an answer's tokens with a number under 100, of 257."""
    counts = rows["counts"]
    return rows.having(reward=((rows["targets"] < 100) * counts).sum(1) / counts.sum(1))


def small() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=12, seed=0)


def run(*more: Any, steps: int = 6, alpha: float = 0.5, epochs: int = 2, **kw: Any) -> tuple[dict[str, Tensor], Any]:
    student, prompts = small(), ["ab", "c", "abcd", "bb", "dca"]
    ids = student.tokenizer(prompts)["input_ids"]
    items = Rows({"prompt": prompts, "prompt_ids": ids, "row": torch.arange(len(prompts))})
    written = rollouts(shuffled("items"), (low(), gae()), copies=1, tokens=5, epochs=epochs)
    losses = (Weighted(policy_gradient()), Weighted(value(), alpha))
    plan = Plan((Feed("rl", written),), losses, trainables=(value_head(), *more))
    fitted = fit(student, plan, {"items": items}, Training(steps, 6, 0.02, log_every=1), **kw)
    assert not hasattr(student.last_layer, "value_head")
    return {n: t.clone() for n, t in student.state().items()}, fitted


def test_ppo_learns_what_is_rewarded_and_the_head_is_found_again() -> None:
    _, first = run(steps=60)
    head = first.memory["value_head"]
    assert head.keys() == {"weight", "bias"}
    assert head["weight"].any()
    early, late = (sum(first.curve[i]["value"] for i in some) for some in (range(10), range(50, 60)))
    assert late < early
    _, second = run(steps=1, memory=first.memory)
    assert not torch.equal(second.memory["value_head"]["weight"], head["weight"])
    assert torch.allclose(second.memory["value_head"]["weight"], head["weight"], atol=0.05), "it went on from there"
    tally, shorter = (fitted.memory["rollouts"] for fitted in (first, run(steps=10)[1]))
    rates = [float(each["reward"].sum() / each["written"].sum()) for each in (tally, shorter)]
    assert rates[0] > rates[1] + 0.1


def test_the_value_loss_at_zero_strength_is_absence() -> None:
    without, with_it = run(alpha=0.0), run(alpha=0.0)
    assert all(torch.equal(without[0][n], with_it[0][n]) for n in without[0])
    assert not without[1].memory["value_head"]["weight"].any()


@pytest.mark.parametrize("at", [1, 2, 4])
def test_resumed_equals_uninterrupted(at: int, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["step"] == at + 1:
            raise Stopped

    whole, fitted = run()
    with pytest.raises(Stopped):
        run(folder=tmp_path, checkpoint_seconds=0, on_record=stop)
    resumed, again = run(folder=tmp_path)
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    for name, tensor in fitted.memory["value_head"].items():
        assert torch.equal(tensor, again.memory["value_head"][name])


def test_beside_low_rank_matrices_nothing_else_moves_and_writing_goes_on_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []
    plain = decoding.by_hand
    monkeypatch.setattr(decoding, "by_hand", lambda *a: seen.append(plain(*a)) or seen[-1])
    before = small().state()
    after, fitted = run(lora(r=2, roles=("q_proj",)))
    assert {n for n in before if not torch.equal(before[n], after[n])} == {"model.layers.0.self_attn.q_proj.weight"}
    assert fitted.memory["value_head"]["weight"].any()
    assert seen
    assert all(seen)


# --- ReMax


def test_what_leads_the_greedy_answer() -> None:
    columns = {
        "group": torch.tensor([4, 4, 2, 4, 2]),
        "copy": torch.tensor([0, 1, 0, -1, -1]),
        "reward": torch.tensor([1.0, 0.0, 0.5, 0.25, 2.0]),
    }
    found = greedy_advantage()(Rows(columns), context())["advantage"]
    assert torch.allclose(found, torch.tensor([0.75, -0.25, -1.5, 0.0, 0.0]))
    none: dict[str, Tensor] = {name: column[:0] for name, column in columns.items()}
    assert greedy_advantage()(Rows(none), context())["advantage"].tolist() == []
    with pytest.raises(RegraftError, match=r"group 2 has no greedy answer.*greedy=True"):
        greedy_advantage()(Rows(columns).take([0, 1, 2, 3]), context())
    with pytest.raises(RegraftError, match="row 1 has the reward nan"):
        greedy_advantage()(Rows({**columns, "reward": torch.tensor([1.0, float("nan"), 0, 0, 0])}), context())


def test_what_leads_the_average_so_far() -> None:
    batches = [Rows({"reward": torch.tensor(R)}) for R in ([1.0, 3.0], [4.0], [0.0, 0.0])]
    running = moving_advantage(m=0.75).begin(context())
    found = [running(rows, context())["advantage"].tolist() for rows in batches]
    assert found == [[-1.0, 1.0], [2.0], [-2.5, -2.5]]
    again = moving_advantage(m=0.75).begin(context())
    again.load_state_dict(running.state_dict())
    assert again(batches[1], context())["advantage"].item() == 4.0 - 1.875
    assert running(Rows({"reward": torch.zeros(0)}), context())["advantage"].tolist() == []
    none = moving_advantage(m=1.0).begin(context())
    assert [none(rows, context())["advantage"].tolist() for rows in batches] == [r["reward"].tolist() for r in batches]


def test_its_gradient_is_unbiased_and_varies_less() -> None:
    """On a policy whose answers can all be counted: three tokens, two places."""
    student = network(0)
    answers = list(itertools.product((5, 17, 33), repeat=2))
    ids = torch.tensor([[2, 3, *answer] for answer in answers])
    counts = torch.tensor([[0.0, 1.0, 1.0]] * len(answers)).double()
    columns = {"input_ids": ids[:, :-1], "targets": ids[:, 1:], "counts": counts}
    rows = Rows({**columns, "positions": torch.arange(3).expand(len(ids), -1)})
    R = torch.tensor([3.0, 2.5, 2.0, 2.9, 2.2, 2.4, 1.0, 2.8, 2.6], dtype=torch.float64)
    tokens = torch.tensor([5, 17, 33])

    def log_p(table: Rows) -> Tensor:
        """Of each answer, where no token but the three can be written."""
        logits = student.read(table).logits[:, 1:].index_select(-1, tokens)
        which = (table["targets"][:, 1:, None] == tokens).double()
        return (logits.log_softmax(-1) * which).sum((1, 2))

    parameters = list(student.module.parameters())
    exact = torch.autograd.grad((log_p(rows).exp() * R).sum(), parameters)
    p = log_p(rows).exp().detach()
    greedy, place = 0, torch.arange(9)
    first = p.view(3, 3).sum(1).argmax()
    greedy = int(first * 3 + p.view(3, 3)[first].argmax())

    def estimates(baseline: bool) -> list[Tensor]:
        """What one sample of each answer gives, and how often it comes."""
        both = Rows(
            {
                "group": torch.cat([place, place]),
                "copy": torch.cat([torch.zeros(9), -torch.ones(9)]).long(),
                "reward": torch.cat([R, R[greedy].expand(9)]),
            }
        )
        A_i = greedy_advantage()(both, context())["advantage"][:9].double() if baseline else R
        found = []
        for i in range(9):
            g = torch.autograd.grad(A_i[i] * log_p(rows.take([i]))[0], parameters)
            found.append(torch.cat([each.flatten() for each in g]))
        return found

    whole = torch.cat([g.flatten() for g in exact])
    spread = []
    for baseline in (True, False):
        each = torch.stack(estimates(baseline))
        assert torch.allclose((p[:, None] * each).sum(0), whole, atol=1e-6)
        spread.append(float((p[:, None] * (each - whole).square()).sum()))
    assert spread[0] < 0.5 * spread[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: gae(gamma=1.1),
        lambda: gae(lam=-0.1),
        lambda: gae(beta=-1.0),
        lambda: gae(temperature=0.0),
        lambda: gae(chunk=0),
        lambda: value(clip=-0.1),
        lambda: value(per="all"),  # type: ignore[arg-type]
        lambda: value_head(lr=0.0),
        lambda: moving_advantage(m=1.1),
    ],
)
def test_knobs_that_cannot_be(make: Any) -> None:
    with pytest.raises(RegraftError):
        make()

"""Steps of answers, what they are worth by several judges, and which of several answers is taken."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.sampling import Sampling
from regraft.numerics.step_values import gone_on, prefixes, step_values
from regraft.numerics.steps import (
    RIGHT,
    WRONG,
    Steps,
    at_ends,
    ends_in,
    judged,
    on_places,
    right_of,
    steps_of,
    summed,
    worth,
)
from regraft.numerics.trying import Asking, in_blocks, tried
from regraft.numerics.voting import best_of, numbered, voted
from regraft.parts.losses.implicit_reward import implicit_reward
from regraft.parts.losses.judgement import judgement
from regraft.parts.metrics.voting import voting
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.process_reward import process_reward
from regraft.parts.transforms.step_judge import step_judge
from regraft.worlds import chains, llama


def model(seed: int = 0) -> CausalLM:
    return llama.llama(chains.tokenizer(), width=16, depth=1, heads=2, context=chains.CONTEXT, seed=seed)


def context(**models: CausalLM) -> Context:
    nothing: Any = None
    rest = (torch.Generator().manual_seed(0), lambda: Progress(0, 1), nothing, nothing, nothing)
    return Context({"student": model(), "before": model(1), "judge": model(2), **models}, {}, {}, *rest)


SAID = (" 0 ; 4 ; 2 ; so 2", " 1 ; so 1", " ;", " 3 3 3")


def rows(said: tuple[str, ...] = SAID) -> Rows:
    """Answers of 4, 2, 1 and 1 steps."""
    ids = chains.tokenizer()(list(said))["input_ids"]
    items = chains.asked(chains.items(3, len(said), 0))
    return items.having(**answer_blocks(Padded.of(items["prompt_ids"]), Padded.of(ids)), written=list(said))


def cut(each: Rows) -> Steps:
    return steps_of(each, ends_in(model(), (chains.STEP,)))


def test_a_step_ends_with_its_token_and_the_last_with_the_answer() -> None:
    each = rows()
    steps = cut(each)
    assert steps.counts.tolist() == [4, 2, 1, 1]
    start = 2 * chains.MOST + 2
    assert steps.of[0, start:].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert steps.last[0, start:].tolist() == [False, True] * 4
    assert steps.of[1, start:].tolist() == [0, 0, 1, 1, -1, -1, -1, -1]
    assert (steps.of[:, :start] == -1).all()
    values = torch.randn(steps.of.shape, generator=torch.Generator().manual_seed(0))
    sums, ends = summed(values, steps), at_ends(values, steps)
    for r in range(4):
        for k in range(steps.most):
            inside = values[r][steps.of[r] == k]
            assert float(sums[r, k]) == pytest.approx(float(inside.sum()), abs=1e-6)
            assert float(ends[r, k]) == (float(inside[-1]) if len(inside) else 0.0)
    assert torch.equal(at_ends(on_places(ends, steps), steps), ends)
    with pytest.raises(RegraftError, match="no token holds"):
        ends_in(model(), ("nothing of the kind",))


@pytest.mark.parametrize("by", ["min", "sum", "mean", "product", "last"])
def test_what_an_answer_is_worth_by_its_steps(by: Any) -> None:
    values = torch.tensor([[0.5, 0.2, 0.9], [0.7, 9.0, 9.0], [9.0, 9.0, 9.0]])
    steps = Steps(torch.empty(3, 0), torch.empty(3, 0), torch.tensor([3, 1, 0]))
    own = ([0.5, 0.2, 0.9], [0.7])
    does: dict[str, Any] = {
        "min": min,
        "sum": sum,
        "mean": lambda v: sum(v) / len(v),
        "product": math.prod,
        "last": lambda v: v[-1],
    }
    assert worth(values, steps, by).tolist() == pytest.approx([*(does[by](v) for v in own), 0.0])
    nothing = Steps(torch.empty(0, 0), torch.empty(0, 0), torch.empty(0, dtype=torch.long))
    assert worth(torch.empty(0, 0), nothing, by).shape == (0,)


def log_ratio(each: Rows, ctx: Context) -> Tensor:
    def of(m: Any) -> Tensor:
        log_p = m.read(each).logits.log_softmax(-1)
        found: Tensor = log_p.gather(2, each["targets"][..., None])[..., 0]
        return found

    apart = (of(ctx.models["judge"]) - of(ctx.models["before"])).detach()
    counted: Tensor = each["counts"].to(apart)
    return apart * counted


def test_the_implicit_reward_is_its_formula() -> None:
    ctx = context()
    each = rows().having(reward=torch.tensor([1.0, 0.0, 0.3, 2.0]))
    r = 0.4 * log_ratio(each, ctx).sum(1)
    o = torch.tensor([1.0, 0.0, 0.3, 1.0])
    wanted = -(o * r.sigmoid().log() + (1 - o) * (1 - r.sigmoid()).log())
    found = implicit_reward(beta=0.4).begin(ctx).loss(View(ctx.models["judge"], each, ctx.models))
    assert torch.allclose(found, wanted, atol=1e-6)
    with pytest.raises(RegraftError):
        implicit_reward(beta=0.0)


def test_rewards_of_steps_add_up_to_that_of_the_answer() -> None:
    ctx, each = context(), rows()
    whole = 0.4 * log_ratio(each, ctx).double().sum(1)
    found = process_reward(ends=(";",), beta=0.4, by="sum")(each, ctx)
    assert torch.allclose(found["process"].double().sum(1), whole, atol=1e-5)
    assert torch.allclose(found["reward"].double(), whole, atol=1e-5)
    steps = cut(each)
    assert not found["process"][~steps.last].any()
    p = summed(0.4 * log_ratio(each, ctx), steps)
    least = process_reward(ends=(";",), beta=0.4)(each, ctx)["reward"]
    q = process_reward(ends=(";",), beta=0.4, of="values", by="last")(each, ctx)["reward"]
    for r, n in enumerate(steps.counts.tolist()):
        assert float(least[r]) == pytest.approx(float(p[r, :n].min()), abs=1e-5)
        assert float(q[r]) == pytest.approx(float(whole[r]), abs=1e-5)
    same = context(judge=model(1))
    assert not process_reward(ends=(";",))(each, same)["process"].any(), "a judge that is the reference says nothing"
    alone = process_reward(ends=(";",), beta=0.4, by="sum", reference=None)(each, ctx)["reward"]
    assert not torch.allclose(alone, found["reward"])
    with pytest.raises(RegraftError, match="no model in the role"):
        process_reward(ends=(";",), judge="nobody")(each, ctx)


def test_a_judge_is_asked_after_every_target() -> None:
    each, judge = rows(), model(2)
    said = right_of(judge, each, chunk=3)
    plus, minus = (chains.tokenizer().encode(t)[0] for t in (RIGHT, WRONG))
    for r in range(each.count):
        ids = torch.cat([each["input_ids"][r, :1], each["targets"][r]])
        n = 1 + int((each["counts"][r] > 0).nonzero().max())
        logits = judge.module(input_ids=ids[None, : n + 1]).logits[0, -1]
        assert float(said[r, n - 1]) == pytest.approx(float(logits[[plus, minus]].softmax(0)[0].detach()), abs=1e-5)
    rewarded = step_judge(ends=(";",), by="last")(each, context())
    assert torch.allclose(rewarded["reward"], at_ends(said, cut(each)).gather(1, cut(each).counts[:, None] - 1)[:, 0])
    labels = torch.full(each["targets"].shape, torch.nan)
    labels[0, -1], labels[0, 15], labels[1, 15] = 1.0, 0.25, 0.0
    learned = judged(each, labels)
    assert learned["counts"].nonzero().tolist() == [[0, 16], [0, labels.shape[1]], [1, 16]]
    p = said.clamp(1e-9, 1 - 1e-9)
    told = View(judge, learned, {})
    wanted: list[Any] = [
        -0.25 * p[0, 15].log() - 0.75 * (1 - p[0, 15]).log() - p[0, -1].log(),
        -(1 - p[1, 15]).log(),
        0.0,
        0.0,
    ]
    found = judgement().begin(context()).loss(told)
    assert found.tolist() == pytest.approx([float(wanted[0]) / 2, *map(float, wanted[1:])], abs=1e-5)
    assert torch.equal(judgement().begin(context()).weight(told), torch.tensor([2.0, 1.0, 0.0, 0.0]))  # type: ignore[arg-type]


def test_a_judge_learns_which_steps_are_right() -> None:
    said = tuple(f" {a} ; so {b}" for a in range(10) for b in range(10))
    each = rows(said)
    steps = cut(each)
    right = torch.tensor([[1.0, float(a == b)] for a in range(10) for b in range(10)])
    labels = on_places(right, steps).masked_fill(~steps.last, torch.nan)
    judge = llama.llama(chains.tokenizer(), width=32, depth=1, heads=2, context=chains.CONTEXT, seed=3)
    plan = Plan((Feed("new", shuffled()),), (Weighted(judgement()),))
    fit(judge, plan, {"new": judged(each, labels)}, Training(300, 50, 0.005))
    found = step_judge(ends=(";",))(each, context(judge=judge))["reward"]
    assert ((found > 0.5) == right.amin(1).bool()).float().mean() > 0.95


def test_votes() -> None:
    said = numbered(["4", "3", "4", None, None, None, None, "7", "1", "2", "2", "1"], 4)
    assert said.tolist() == [[0, 1, 0, -1], [-1, -1, -1, 2], [3, 4, 4, 3]]
    assert voted(said).tolist() == [0, 3, 0], "no answer has no vote; of equals the first"
    worth_ = torch.tensor([[0.1, 0.9, 0.2, 5.0], [9.0, 9.0, 9.0, 0.0], [0.1, 0.3, 0.1, 0.2]])
    assert voted(said, worth_).tolist() == [1, 3, 1]
    assert best_of(worth_).tolist() == [3, 0, 1]
    assert voted(torch.full((1, 3), -1)).tolist() == [0]
    assert voted(torch.empty(0, 3, dtype=torch.long)).shape == best_of(torch.empty(0, 3)).shape == (0,)


def test_values_of_prefixes_are_means_of_what_goes_on_from_there() -> None:
    student, ctx = model(), context()
    items = chains.asked(chains.items(2, 5, 0))
    asking = Asking(copies=2, tokens=6, at_once=7)
    answers = tried(student, items, chains.judge(), asking, ctx)
    each = in_blocks(answers)
    steps = cut(each)
    own = prefixes(each, steps)
    for r, starts in enumerate(own):
        assert starts[0] == []
        assert starts[-1] == answers.written.ids(r)
        assert len(starts) == steps.counts[r] + 1
    greedy = asking._replace(copies=3, how=Sampling(0.0))
    Q = step_values(student, each, steps, chains.judge(), greedy, ctx, torch.Generator())
    assert Q.shape == (each.count, steps.most + 1)
    for r, starts in enumerate(own):
        n = len(starts) - 1
        assert float(Q[r, n]) == float(each["reward"][r])
        assert Q[r, n + 1 :].isnan().all()
        begun = each.take([r] * n).having(prefix_ids=starts[:n])
        one, whole = gone_on(student, begun, chains.judge(), greedy, ctx, torch.Generator())
        assert torch.equal(Q[r, :n], one["reward"])
        assert all(whole.ids[k, : len(starts[k])].tolist() == starts[k] for k in range(n))


def test_the_metric_of_votes() -> None:
    student = model()
    ctx = context()
    items = chains.asked(chains.items(1, 8, 0))
    ctx = Context(ctx.models, {"items": items}, {}, ctx.rng, ctx.progress, ctx.begin, ctx.gradient, ctx.again)
    knobs: dict[str, Any] = {"judge": chains.judge(), "marker": "so", "copies": 4, "tokens": 5}
    found = voting(**knobs)(student, ctx).numbers
    assert set(found) == {"pass@1", "pass@4", "majority"}
    assert 0 <= found["pass@1"] <= found["pass@4"] <= 1
    more = voting(**knobs, by=process_reward(ends=(";",)), squashed=True)(student, ctx).numbers
    assert {"best", "weighted"} < set(more)
    perfect = voting(**knobs, by=chains.judge())(student, ctx).numbers
    assert perfect["best"] == perfect["pass@4"]
    with pytest.raises(RegraftError, match="no question"):
        voting(**knobs, source="none")(student, Context(ctx.models, {"none": items.take([])}, *[None] * 6))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: process_reward(beta=0.0),
        lambda: process_reward(by="max"),  # type: ignore[arg-type]
        lambda: process_reward(of="all"),  # type: ignore[arg-type]
        lambda: step_judge(by="max"),  # type: ignore[arg-type]
    ],
)
def test_knobs_that_cannot_be(make: Any) -> None:
    with pytest.raises(RegraftError):
        make()


def test_the_reward_model_is_trained_as_any_loss_and_lowers_the_reward_of_wrong_answers() -> None:
    each = rows((" 0 ; so 0", " 1 ; so 1") * 4)
    each = each.having(reward=torch.tensor([1.0, 0.0] * 4), row=torch.arange(8))
    judge = model(1)
    plan = Plan((Feed("new", shuffled()),), (Weighted(implicit_reward(beta=0.5)),))
    fit(judge, plan, {"new": each}, Training(30, 4, 0.01))
    r = process_reward(ends=(";",), beta=0.5, by="sum")(each, context(judge=judge))["reward"]
    assert float(r[::2].min()) > 0 > float(r[1::2].max())
    assert F.binary_cross_entropy_with_logits(r, each["reward"]) < math.log(2)

"""Several right answers in one row, and what is kept of answers that a model finds itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answer_sets import set_blocks
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.token_loss import log_probs_of
from regraft.parts.losses.marginal import marginal
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.repairing import InMemory, Workshop
from regraft.repairs.self_sampling import Found, self_sampling
from regraft.worlds import chains, llama

PROMPTS = [[5, 6], [7], [8, 9, 10]]
SETS = [[[11, 12], [13], [14, 15, 16]], [[17, 18]], []]


def model() -> CausalLM:
    return llama.llama(chains.tokenizer(), width=16, depth=1, heads=2, context=chains.CONTEXT, seed=0)


def likelihoods() -> list[Tensor]:
    """log p of each answer, asked for one by one."""
    found = []
    for prompt, answers in zip(PROMPTS, SETS, strict=True):
        alone = [answer_blocks(Padded.of([prompt]), Padded.of([each])) for each in answers]
        found.append(torch.tensor([float(log_probs_of(model(), rows).sum()) for rows in alone]))
    return found


def values(beta: float, rows: Rows) -> Tensor:
    found: Tensor = marginal(beta=beta).begin(None).loss(View(model(), rows, {}))  # type: ignore[arg-type]
    return found.detach()


def test_the_formula() -> None:
    rows = set_blocks(PROMPTS, SETS)
    assert rows["member"].amax(1).tolist() == [2, 0, -1]
    first, second, _ = likelihoods()
    for beta in (0.1, 0.25, 1.0):
        wanted = [-float((beta * p).exp().sum().log()) / beta for p in (first, second)]
        assert values(beta, rows).tolist() == pytest.approx([*wanted, 0.0], abs=1e-4)
    assert values(0.0, rows).tolist() == pytest.approx([-float(first.mean()), -float(second.mean()), 0.0], abs=1e-4)
    assert not values(0.0, set_blocks([[5, 6]], [[]])).any()
    assert not values(1.0, set_blocks([[5, 6]], [[]])).any()
    with pytest.raises(RegraftError, match="marginal"):
        values(1.5, rows)


@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0])
def test_the_gradient_counts_answers_by_their_likelihood(beta: float) -> None:
    def gradient(rows: Rows, loss: Any) -> list[Tensor]:
        student = model()
        loss.begin(None).loss(View(student, rows, {})).sum().backward()
        return [p.grad.clone() for p in student.module.parameters() if p.grad is not None]

    [p, *_] = likelihoods()
    weights = (beta * p).softmax(0)
    each = [gradient(set_blocks(PROMPTS[:1], [[answer]]), marginal()) for answer in SETS[0]]
    wanted = [sum(w * g for w, g in zip(weights, parts, strict=True)) for parts in zip(*each, strict=True)]
    found = gradient(set_blocks(PROMPTS[:1], SETS[:1]), marginal(beta=beta))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True))


def test_one_answer_a_question_is_the_likelihood_at_every_beta() -> None:
    rows = set_blocks(PROMPTS[:2], [[[11, 12]], [[17, 18]]])
    assert torch.allclose(values(0.0, rows), values(1.0, rows))

    def learned(loss: Any) -> list[Tensor]:
        student = model()
        plan = Plan((Feed("new", shuffled()),), (Weighted(loss),))
        fit(student, plan, {"new": rows.having(row=torch.arange(2))}, Training(3, 2, 0.01))
        return list(student.state().values())

    apart = [(a - b).abs().max() for a, b in zip(learned(marginal()), learned(nll()), strict=True)]
    assert max(apart) < 1e-3, "answers of one length: as the mean of their tokens, but for the scale"


def test_what_is_kept() -> None:
    found = Found()
    assert found.add((1, 9, 2, 9), (2, 4), ["A", "Z"], True, 0)
    assert (found.solutions, found.beginnings, found.fewest) == ([(1, 9, 2, 9)], [()], {"A": 1})
    assert not found.add((1, 9, 2, 9), (2, 4), ["A", "Z"], True, 0), "twice"
    assert not found.add((1, 9, 3, 9), (2, 4), ["A", "X"], False, 0), "the beginning of a solution"
    assert found.add((4, 9, 3, 9), (2, 4), ["A", "X"], False, 0)
    assert found.beginnings == [(), (4, 9)]
    assert not found.add((5, 9, 6, 9, 7, 9), (2, 4, 6), ["B", "A", None], False, 0), "one step more than is known"
    assert found.add((5, 9, 6, 9, 7, 9), (2, 4, 6), ["B", "A", None], False, 1)
    assert found.beginnings == [(), (4, 9), (5, 9, 6, 9)]
    assert found.fewest == {"A": 1, "B": 1}
    assert not found.add((4, 9, 2, 9, 2, 9), (2, 4, 6), ["A", "C", "Z"], True, 0), "longer than the solution"
    assert found.add((4, 9, 8, 9), (2, 4), ["A", "Z"], True, 0)
    assert found.beginnings == [(), (5, 9, 6, 9)], "a beginning gives way to what goes on from it"
    assert found.learned(2, 0) == [(1, 9, 2, 9, 0), (4, 9, 8, 9, 0)]
    assert found.learned(9, 0)[2:] == [(5, 9, 6, 9)], "only solutions end"
    assert not Found().add((1, 9), (2,), [None], False, 0)


@transform
def digits(rows: Rows, ctx: Context) -> Rows:
    """Right is what begins with a digit: a model that nobody taught does that now and then."""
    return rows.having(reward=torch.tensor([float(text.strip()[:1].isdigit()) for text in rows["written"]]))


@transform
def lengths(rows: Rows, ctx: Context) -> Rows:
    """Each step leads to the same state as any other step there."""
    said = [text.split(chains.STEP) for text in rows["written"]]
    return rows.having(states=[[str(k) for k in range(len(each) - (not each[-1]))] for each in said])


def run(shown: bool = True, **knobs: Any) -> tuple[Workshop, InMemory]:
    lesson, doer = chains.lesson(0, (1, 2), 6), InMemory()
    lesson = replace(lesson, judge=digits(), shown=lesson.shown if shown else None)
    w = Workshop(model(), lesson, Training(6, 4, 0.01, log_every=6), doer)
    self_sampling(ends=(chains.STEP,), **knobs)(w)
    return w, doer


def test_what_is_learned_grows_from_round_to_round() -> None:
    w, doer = run(rounds=3, samples=4, tolerance=20)
    assert w.left == 0
    counts = [int(note.split()[1]) for note in doer.notes]
    assert 12 < counts[0] < counts[1] < counts[2]
    assert all(note.split()[4] == "0" for note in doer.notes), "without a trace no beginnings"
    _, doer = run(rounds=1, samples=0)
    assert doer.notes == ["kept       12 solutions and 0 beginnings, of 12 questions"]
    w, doer = run(shown=False, rounds=1, samples=0)
    assert (w.left, doer.notes) == (6, ["kept       0 solutions and 0 beginnings, of 12 questions"])


def test_beginnings_are_kept_where_states_are_told() -> None:
    _, doer = run(rounds=2, samples=8, trace=lengths(), tolerance=0)
    assert int(doer.notes[-1].split()[4]) > 0


@pytest.mark.parametrize("knobs", [{"rounds": 0}, {"samples": -1}, {"tolerance": -1}, {"most": 0}])
def test_knobs_that_cannot_be(knobs: Any) -> None:
    with pytest.raises(RegraftError, match="self_sampling"):
        run(**knobs)

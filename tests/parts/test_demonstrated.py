"""Answers that begin with a demonstration, steps that imitate now and then, questions from easy to hard, and
demonstrations in the model's own words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.define import transform
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Outcome, Progress
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.demonstrations import Demonstrations
from regraft.numerics.padded import Padded
from regraft.numerics.ranking import inversion_rate
from regraft.numerics.token_loss import entropies_of, log_probs_of
from regraft.numerics.trying import Asking
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.adaptive_difficulty import adaptive_difficulty
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.sometimes import sometimes
from regraft.parts.schedules.half_cosine import half_cosine
from regraft.parts.schedules.norm_ratio import norm_ratio
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.prefixes import prefixes
from regraft.parts.transforms.reformulated import reformulated
from regraft.worlds import llama

PROMPTS = ["ab", "c", "abcd", "bb", "dca"]
ANSWERS = ["aeiou", "bcd", "xyzab", "", "aaaaaaaaaa"]


@transform
def vowels(rows: Rows, ctx: Context, *, enough: int = 1) -> Rows:
    """Right is what has so many letters that are an a."""
    return rows.having(reward=torch.tensor([float(text.count("a") >= enough) for text in rows["written"]]))


def model() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=24, seed=0)


def data(student: CausalLM, prompts: list[str] = PROMPTS, answers: list[str] = ANSWERS) -> dict[str, Rows]:
    ids = student.tokenizer(prompts)["input_ids"]
    items = Rows({"prompt": prompts, "prompt_ids": ids, "row": torch.arange(len(prompts))})
    said = [(i, student.tokenizer(text)["input_ids"]) for i, text in enumerate(answers) if text]
    ends = Padded.of([[*tokens, student.tokenizer.eos_token_id] for _, tokens in said])
    shown = answer_blocks(Padded.of([ids[i] for i, _ in said]), ends)
    return {"items": items, "shown": shown.having(item=torch.tensor([i for i, _ in said]), row=torch.arange(len(said)))}


def context(student: CausalLM, rows: dict[str, Rows], step: int = 0, total: int = 10) -> Context:
    nothing: Any = None
    dice = torch.Generator().manual_seed(4)
    ctx: Context

    def begin(part: Any) -> Any:
        return part.begin(ctx)

    ctx = Context({"student": student}, rows, {}, dice, lambda: Progress(step, total), begin, nothing, nothing)
    return ctx


def sampler(start: Any = None, *more: Any, **knobs: Any) -> rollouts:
    then = (vowels(), *more, group_advantage())
    return rollouts(shuffled("items"), then, **{"copies": 3, "tokens": 5, "start": start, **knobs})


def run(feeds: tuple[Feed, ...], gradients: tuple[Any, ...] = (), *, steps: int = 8, **kw: Any) -> dict[str, Tensor]:
    student = model()
    losses = [Weighted(policy_gradient(), on=("rl",)), Weighted(nll(), on=("shown",))]
    names = {feed.name for feed in feeds}
    plan = Plan(feeds, tuple(w for w in losses if set(w.on) <= names), gradients=gradients)
    fit(student, plan, data(student), Training(steps, 6, 0.05, log_every=1), **kw)
    return {n: t.clone() for n, t in student.state().items()}


def resumed(at: int, folder: Path, feeds: tuple[Feed, ...], gradients: tuple[Any, ...] = ()) -> bool:
    """Whether a run that is stopped ends as one that is not."""

    class Stopped(Exception):
        pass

    def stop(record: dict[str, float]) -> None:
        if record["step"] == at + 1:
            raise Stopped

    whole = run(feeds, gradients)
    with pytest.raises(Stopped):
        run(feeds, gradients, folder=folder, checkpoint_seconds=0, on_record=stop)
    again = run(feeds, gradients, folder=folder)
    return all(torch.equal(whole[n], again[n]) for n in whole)


# --- demonstrations


def test_demonstrations_are_found_by_their_question() -> None:
    student = model()
    rows = data(student)["shown"]
    other = rows.take([1]).having(targets=rows["targets"][:1], counts=rows["counts"][:1], row=torch.tensor([4]))
    twice = Rows.join([rows, other])
    found = Demonstrations(twice, torch.Generator().manual_seed(0))
    end = student.tokenizer.eos_token_id
    assert set(found.of) == {0, 1, 2, 4}
    first = [*student.tokenizer("aeiou")["input_ids"], end]
    assert found.of[0] == [(0, first)]
    assert [len(own) for own in found.of.values()] == [1, 2, 1, 1]
    drawn = [found.one_each(torch.tensor([3, 1, 0])) for _ in range(20)]
    assert all(list(three[0]) == [] and three[2] == first for three in drawn)
    assert {tuple(three[1]) for three in drawn} == {tuple(own) for _, own in found.of[1]}
    assert found.used.tolist() == [True, True, False, False, True]
    none = Demonstrations(rows.take(slice(0, 0)), torch.Generator())
    assert none.of == {}
    assert none.one_each(torch.tensor([0])) == [()]
    assert len(none.used) == 0


# --- prefixes


def started(part: prefixes, *, step: int = 0, copies: int = 3) -> tuple[Rows, CausalLM]:
    student = model()
    rows = data(student)
    place = torch.arange(len(PROMPTS) * copies)
    asked = rows["items"].repeat(copies).having(group=place // copies, copy=place % copies)
    ctx = context(student, rows, step)
    return ctx.at_work(part)(asked, ctx), student


def test_the_last_answers_begin_with_part_of_the_demonstration() -> None:
    rows, student = started(prefixes(low=0.5, high=0.5, rows=2, top=1.0))
    for row, (copy, item, ids) in enumerate(zip(rows["copy"], rows["row"], rows["prefix_ids"], strict=True)):
        whole = student.tokenizer(ANSWERS[int(item)])["input_ids"]
        length = int(0.5 * (len(whole) + 1)) if copy > 0 and whole else 0
        assert ids == whole[:length]
        assert rows["prefix_counts"][row] == [1.0] * length


def test_a_demonstration_is_never_given_whole() -> None:
    rows, student = started(prefixes(low=1.0, high=1.0, top=1.0))
    longest = {len(ids) for ids, item in zip(rows["prefix_ids"], rows["row"], strict=True) if int(item) == 4}
    assert longest == {0, len(student.tokenizer(ANSWERS[4])["input_ids"])}, "without its end"


def test_lengths_follow_the_schedule() -> None:
    part = prefixes(low=half_cosine(early=0.95, late=0.05), high=0.95)
    for step in (0, 5, 10):
        low = 0.05 + 0.45 * (1 + math.cos(math.pi * step / 10))
        rows, student = started(part, step=step)
        for ids, item, copy in zip(rows["prefix_ids"], rows["row"], rows["copy"], strict=True):
            whole = len(student.tokenizer(ANSWERS[int(item)])["input_ids"]) + 1
            if copy == 2 and whole > 1:
                assert int(low * whole) <= len(ids) <= int(0.95 * whole)


@pytest.mark.parametrize("top", [0.0, 0.2, 0.5, 1.0])
def test_tokens_that_count_are_those_of_highest_entropy(top: float) -> None:
    rows, student = started(prefixes(low=0.9, high=0.9, top=top))
    begins = [row for row, ids in enumerate(rows["prefix_ids"]) if ids]
    blocks = answer_blocks(
        Padded.of([rows["prompt_ids"][r] for r in begins]), Padded.of([rows["prefix_ids"][r] for r in begins])
    )
    log_p = student.read(blocks).logits.log_softmax(-1)
    H = -(log_p.exp() * log_p).sum(-1)
    entropy = torch.cat([H[i][blocks["counts"][i] > 0] for i in range(len(begins))])
    counts = torch.tensor([c for row in begins for c in rows["prefix_counts"][row]])
    assert len(entropy) == len(counts)
    kept = len(counts) - int(len(counts) * (1 - top) + 1e-9)
    assert int(counts.sum()) == kept
    assert set(counts.nonzero()[:, 0].tolist()) == set(entropy.argsort(descending=True)[:kept].tolist())
    assert torch.allclose(entropies_of(student, blocks)[blocks["counts"] > 0], entropy, atol=1e-5)


def test_without_a_prefix_rollouts_are_plain() -> None:
    nothing = (prefixes(rows=0), prefixes(low=0.0, high=0.0))
    plain = run((Feed("rl", sampler()),))
    for part in nothing:
        same = run((Feed("rl", sampler(part)),))
        assert all(torch.equal(plain[n], same[n]) for n in plain)
    other = run((Feed("rl", sampler(prefixes(low=0.5))),))
    assert not all(torch.equal(plain[n], other[n]) for n in plain)


def test_a_run_has_seen_the_demonstrations_that_were_used() -> None:
    student = model()
    rows = data(student)
    few = rows["items"].take([0, 3])
    plan = Plan((Feed("rl", sampler(prefixes(low=0.5))),), (Weighted(policy_gradient()),))
    fitted = fit(student, plan, {**rows, "items": few}, Training(4, 6, 0.01))
    assert fitted.seen["shown"].tolist() == [True, False, False, False]
    assert fitted.seen["rl"].nonzero()[:, 0].tolist() == [0, 3]


@pytest.mark.parametrize("at", [0, 3])
def test_prefixes_resume(at: int, tmp_path: Path) -> None:
    part = sampler(prefixes(low=half_cosine(early=0.95, late=0.05)), copies=2, ahead=2)
    assert resumed(at, tmp_path, (Feed("rl", part),))


@pytest.mark.parametrize("wrong", [{"rows": -1}, {"top": 1.5}, {"top": -0.1}])
def test_knobs_of_prefixes(wrong: dict[str, Any]) -> None:
    with pytest.raises(RegraftError):
        prefixes(**wrong)


# --- now and then


def test_a_feed_has_some_of_the_steps() -> None:
    student = model()
    rows = data(student)
    for p, least, most in ((0.0, 0, 0), (1.0, 400, 400), (0.25, 70, 130)):
        part = sometimes(shuffled("shown"), p).begin(context(student, rows))
        drawn = [part.draw(2).count for _ in range(400)]
        assert least <= sum(n == 2 for n in drawn) <= most
        assert set(drawn) <= {0, 2}
    early, late = (sometimes(shuffled("shown"), half_cosine()).begin(context(student, rows, step)) for step in (0, 10))
    assert early.draw(1).count == 1
    assert late.draw(1).count == 0
    with pytest.raises(RegraftError):
        sometimes(shuffled("shown"), 1.5)


def test_steps_of_one_feed_are_those_of_its_sampler() -> None:
    plain = run((Feed("shown", shuffled("shown")),))
    always = run((Feed("shown", sometimes(shuffled("shown"), 1.0), solo=True), Feed("rl", sampler())))
    never = run((Feed("rl", sampler()), Feed("shown", sometimes(shuffled("shown"), 0.0), solo=True)))
    alone = run((Feed("rl", sampler()),))
    assert all(torch.equal(plain[n], always[n]) and torch.equal(alone[n], never[n]) for n in plain)


def heard(ratio: Any, step: int, norm: float, feed: str = "shown") -> None:
    ratio.update({"a": torch.tensor([3.0, 0.0]) * norm / 5, "b": torch.tensor([[4.0]]) * norm / 5})
    ratio.observe(Outcome(feed, Rows({}), {}, Progress(step, 10)))


def test_the_ratio_of_norms() -> None:
    nothing: Any = None
    ratio = norm_ratio(warm=2, gamma=0.5).begin(nothing)
    assert [ratio(Progress(step, 10)) for step in (0, 1)] == [1.0, 1.0]
    heard(ratio, 0, 8.0)
    heard(ratio, 1, 2.0)
    assert ratio(Progress(2, 10)) == pytest.approx(2 / (2 + 0.5 * 2))
    heard(ratio, 2, 7.0, feed="rl")
    assert ratio(Progress(3, 10)) == pytest.approx(2 / 3), "steps of other feeds do not count"
    heard(ratio, 3, 6.0)
    assert ratio(Progress(4, 10)) == pytest.approx(6 / 7)
    heard(ratio, 4, 0.0)
    assert ratio(Progress(5, 10)) == 0.0
    for wrong in ({"warm": 0}, {"gamma": 0.0}):
        with pytest.raises(RegraftError):
            norm_ratio(**wrong)
    with pytest.raises(RegraftError, match="gradients"):
        norm_ratio().begin(nothing).observe(Outcome("shown", Rows({}), {}, Progress(0, 1)))


class _Watched:
    """Says what the ratio is after each step, and perturbs the model once."""

    def __init__(self, ratio: Any, student: Any, at: int | None) -> None:
        self.ratio, self.student, self.at = ratio, student, at
        self.p: list[float] = []

    def begin(self, ctx: Context) -> _Watched:
        self.running = ctx.begin(self.ratio)
        return self

    def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        return grads

    @torch.no_grad()
    def observe(self, outcome: Outcome) -> None:
        step = outcome.progress.step
        if step == self.at:
            dice = torch.Generator().manual_seed(1)
            for p in self.student.module.parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=dice))
        self.p.append(self.running(Progress(step + 1, 70)))


@pytest.mark.parametrize("gamma", [1.0, 0.3])
def test_imitation_is_likelier_after_the_policy_was_perturbed(gamma: float) -> None:
    found = []
    for at in (None, 59):
        student, ratio = model(), norm_ratio(warm=60, gamma=gamma)
        watch = _Watched(ratio, student, at)
        feed = Feed("shown", sometimes(shuffled("shown"), 1.0), solo=True)
        plan = Plan((feed,), (Weighted(nll()),), gradients=(ratio, watch))
        fit(student, plan, data(student), Training(70, 4, 0.01, log_every=10))
        assert all(0 < p < 1 for p in watch.p[60:])
        found.append(sum(watch.p[60:]) / 10)
    assert found[1] > found[0] + 0.1


@pytest.mark.parametrize("at", [1, 4])
def test_the_ratio_resumes(at: int, tmp_path: Path) -> None:
    ratio = norm_ratio(warm=2)
    shown = Feed("shown", sometimes(shuffled("shown"), ratio), solo=True)
    assert resumed(at, tmp_path, (Feed("rl", sampler(copies=2)), shown), (ratio,))


# --- from easy to hard


def test_the_inversion_rate() -> None:
    up = torch.arange(6.0)
    assert inversion_rate(up, up) == 0.0
    assert inversion_rate(up, -up) == 1.0
    assert inversion_rate(up, torch.tensor([1.0, 0, 2, 3, 5, 4])) == pytest.approx(2 / 15)
    assert inversion_rate(torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0])) == pytest.approx(1 / 3), (
        "ties are in none"
    )
    assert inversion_rate(up[:1], up[:1]) == inversion_rate(up[:0], up[:0]) == 0.0
    a, b = torch.rand(2, 2100, generator=torch.Generator().manual_seed(0))
    pairs = [(i, j) for i in range(2000, 2100) for j in range(2000, i)]
    flipped = sum(float((a[i] - a[j]) * (b[i] - b[j])) < 0 for i, j in pairs)
    assert inversion_rate(a[2000:], b[2000:]) == pytest.approx(flipped / len(pairs))
    assert inversion_rate(a, b) == pytest.approx(inversion_rate(b, a)) == pytest.approx(0.5, abs=0.05)


@transform
def told(rows: Rows, ctx: Context) -> Rows:
    """An answer is right with the probability that the model's memory of the question says, here: as its number."""
    easy = ctx.memory["easy"]
    copies = torch.zeros(len(easy), dtype=torch.long)
    reward = []
    for row in rows["row"].tolist():
        reward.append(float(copies[row] < easy[row]))
        copies[row] += 1
    ctx.memory["asked"].append(rows["row"].unique().tolist())  # type: ignore[union-attr]
    return rows.having(reward=torch.tensor(reward))


def curriculum(easy: list[int], **knobs: Any) -> tuple[Any, dict[str, Any]]:
    student = model()
    rows = Rows({"prompt_ids": [[5]] * len(easy), "row": torch.arange(len(easy))})
    memory: dict[str, Any] = {"easy": easy, "asked": []}
    ctx = context(student, {"new": rows})
    part = adaptive_difficulty(told(), Asking(copies=4, tokens=1), **knobs)
    return part.begin(Context(**{**ctx.__dict__, "memory": memory})), memory


def test_questions_come_from_easy_to_hard_and_are_sorted_anew() -> None:
    run_, memory = curriculum([0, 4, 2, 1, 3, 4], K=3)
    assert run_.draw(2)["row"].tolist() == [1, 5], "equally hard: in their order"
    assert memory["asked"] == [[0, 1, 2, 3, 4, 5]]
    memory["easy"][2], memory["easy"][4] = 4, 1
    assert run_.draw(1)["row"].tolist() == [2]
    assert memory["asked"][1:] == [[2, 4]], "only the batch that is entered is tried"
    assert run_.draw(3)["row"].tolist() == [4, 3, 0], "a draw goes over the edge of a batch"
    assert memory["asked"][2:] == [[0, 3]]
    left = run_.leave()["adaptive_difficulty"]
    assert left["initial"].tolist() == [1, 0, 0.5, 0.75, 0.25, 0]
    assert left["difficulty"].tolist() == [1, 0, 0, 0.75, 0.75, 0]
    assert left["inversions"] == [1.0, 0.0]
    assert sorted(run_.draw(6)["row"].tolist()) == [0, 1, 2, 3, 4, 5], "each once before any comes again"
    assert memory["asked"][3] == [1, 5]


def test_one_batch_is_a_fixed_curriculum() -> None:
    run_, memory = curriculum([0, 4, 2, 1], K=1)
    assert run_.draw(3)["row"].tolist() == [1, 2, 3]
    memory["easy"][:] = [4, 0, 0, 0]
    assert run_.draw(5)["row"].tolist() == [0, 1, 2, 3, 0]
    assert len(memory["asked"]) == 1
    assert run_.leave()["adaptive_difficulty"]["inversions"] == []


def test_odd_sizes_of_a_curriculum() -> None:
    few, _ = curriculum([2, 1], K=5)
    assert few.draw(3)["row"].tolist() == [0, 1, 0]
    alike, _ = curriculum([2, 2, 2], K=2)
    assert alike.draw(3)["row"].tolist() == [0, 1, 2]
    none, _ = curriculum([], K=2)
    assert none.draw(3).count == 0
    with pytest.raises(RegraftError):
        adaptive_difficulty(told(), Asking(), K=0)


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_curriculum_resumes(at: int, tmp_path: Path) -> None:
    part = adaptive_difficulty(vowels(), Asking(copies=2, tokens=3), "items", K=2)
    assert resumed(at, tmp_path, (Feed("rl", rollouts(part, (vowels(), group_advantage()), copies=2, tokens=3)),))


# --- in one's own words


def answered(part: reformulated, judge: Any, *, ahead: int = 1, greedy: bool = False) -> tuple[Rows, Rows, CausalLM]:
    """What was written, judged, and the same rows after `part`."""
    student = model()
    rows = data(student)
    seen: list[Rows] = []

    @transform
    def keep(rows: Rows, ctx: Context) -> Rows:
        seen.append(rows)
        return rows

    then = (judge, keep(), part, keep(), group_advantage())
    sampler = rollouts(shuffled("items"), then, copies=3, tokens=4, ahead=ahead, greedy=greedy)
    sampler.begin(context(student, rows)).draw(15)
    return seen[0], seen[1], student


def test_a_demonstration_takes_the_place_of_a_failed_answer() -> None:
    judge = vowels(enough=1)
    before, after, student = answered(reformulated(judge, Asking(copies=1, tokens=4), own=False), judge, ahead=2)
    right = {0, 2, 4}
    """The questions whose demonstration has an a."""
    failed = {int(g) for g in before["group"] if not before["reward"][before["group"] == g].any()}
    placed = after["guided"].nonzero()[:, 0].tolist()
    of = [(int(after["group"][r]), int(after["row"][r]), int(after["copy"][r])) for r in placed]
    assert {g for g, _, _ in of} == {g for g in failed if int(before["row"][3 * g]) in right} != set()
    assert {copy for _, _, copy in of} == {2}
    end = student.tokenizer.eos_token_id
    for r in range(before.count):
        if r not in placed:
            width = before["input_ids"].shape[1]
            assert torch.equal(after["input_ids"][r, :width], before["input_ids"][r])
            assert torch.equal(after["counts"][r, :width], before["counts"][r])
            assert after["written"][r] == before["written"][r]
            continue
        text = ANSWERS[int(after["row"][r])]
        tokens = [*student.tokenizer(text)["input_ids"], end]
        assert after["written"][r] == text
        assert after["targets"][r][after["counts"][r] > 0].tolist() == tokens
        assert after["prompt_ids"][r] == before["prompt_ids"][r]
        assert (int(after["length"][r]), float(after["reward"][r]), bool(after["ended"][r])) == (len(tokens), 1.0, True)
    blocks = after.take(placed)
    said = log_probs_of(student, blocks.only("input_ids", "targets", "counts", "positions"))
    assert torch.allclose(blocks["surprise"], -said.sum(1), atol=1e-5)
    assert torch.allclose(blocks["old_log_probs"], said, atol=1e-5)
    assert list(before["group"]) == list(after["group"])


def test_the_model_is_asked_with_the_demonstration_before_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    import regraft.parts.transforms.reformulated as module

    asked: list[list[list[int]]] = []
    real = module.tried

    def watched(model: Any, items: Rows, *rest: Any, **knobs: Any) -> Any:
        asked.append(items["prompt_ids"])
        return real(model, items, *rest, **knobs)

    monkeypatch.setattr(module, "tried", watched)
    judge = vowels(enough=1)
    part = reformulated(judge, Asking(copies=40, tokens=4), before="<", after=">")
    before, after, student = answered(part, judge)
    ids = student.tokenizer
    failed = [g for g in range(5) if not before["reward"][before["group"] == g].any()]
    wanted = []
    for g in failed:
        item = int(before["row"][3 * g])
        if ANSWERS[item]:
            wanted.append(ids("<" + ANSWERS[item] + ">" + PROMPTS[item])["input_ids"])
    assert [len(w) < 24 for w in wanted] == [True] * len(wanted)
    assert asked[0] == wanted
    placed = after["guided"].nonzero()[:, 0].tolist()
    assert placed, "with 40 tries some answer has an a"
    for r in placed:
        assert "a" in after["written"][r]
        tokens = after["targets"][r][after["counts"][r] > 0].tolist()
        assert ids.decode(tokens, skip_special_tokens=True) == after["written"][r]
        assert after["input_ids"][r].tolist()[: len(after["prompt_ids"][r])] == ids(after["prompt"][r])["input_ids"]
    assert float(after["reward"].sum()) == float(before["reward"].sum()) + len(placed)


def test_where_nothing_fails_or_nothing_is_right_rows_stay() -> None:
    for enough in (0, 99):
        judge = vowels(enough=enough)
        for own in (True, False):
            before, after, _ = answered(reformulated(judge, Asking(copies=1, tokens=4), own=own), judge)
            assert not after["guided"].any()
            assert all(torch.equal(after[n], before[n]) for n in ("input_ids", "counts", "reward", "surprise"))


def test_a_greedy_answer_keeps_its_place() -> None:
    judge = vowels(enough=1)
    part = reformulated(judge, Asking(copies=1, tokens=4), own=False)
    before, after, _ = answered(part, judge, greedy=True)
    greedy = before["copy"] < 0
    assert torch.equal(after["copy"] < 0, greedy)
    assert not after["guided"][greedy].any()
    solved = {int(g) for g in before["group"][greedy & (before["reward"] >= 1)]}
    assert solved.isdisjoint({int(g) for g in after["group"][after["guided"]]})


def test_a_demonstration_without_room_guides_nobody() -> None:
    judge = vowels(enough=1)
    part = reformulated(judge, Asking(copies=40, tokens=4), before="<" * 30)
    _, after, _ = answered(part, judge)
    assert not after["guided"].any()


@pytest.mark.parametrize("at", [0, 3])
def test_own_words_resume(at: int, tmp_path: Path) -> None:
    own = reformulated(vowels(), Asking(copies=2, tokens=4))
    assert resumed(at, tmp_path, (Feed("rl", sampler(None, own, copies=2)),))

"""A start whose trail ends at a target, found by trying, for a language model of 0.1M weights.

    question    a3 b1 c0 d2 0C 1A 2D 3B toC ;       a leads to 3, which leads to B; from where does one come to C?
    trace       b 1 A no c 0 C yes so c             a try is a start, where it leads, whether that is right

One start is right: of 4 where it is easy, of 8 where it is hard. A base was taught to try at random, none twice, how
often and whatever it finds, and then to answer with what it found, or else with what it tried last. So it follows
trails, checks and answers, and does not search; that it learns by a warm-up on traces (`warmed`), or by rewards.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import torch

from regraft.core.parts import Transform
from regraft.core.rows import Rows
from regraft.engine.bits import one_thread
from regraft.engine.fit import Meter
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import uncounted
from regraft.numerics.sampling import Sampling
from regraft.numerics.trying import Asking, tried
from regraft.parts.transforms.verified import verified
from regraft.recipes.answered import still
from regraft.recipes.repairing import InMemory, Lesson, Workshop
from regraft.worlds import llama
from regraft.worlds.taught import taught

STARTS, MIDDLES, ENDS = "abcdefgh", "01234567", "ABCDEFGH"
EASY, HARD = 4, 8
"""How many starts a question has."""
YES, NO, ANSWER, TARGET = "yes", "no", "so", "to"
"""What a try ends with; what the answer comes after; what stands before the end that is looked for."""
WIDTH, DEPTH, CONTEXT, SPREAD = 64, 2, 64, 5.0
"""Weights begin so many times as far apart as transformers has them: pairs are found much sooner."""
TAUGHT, UPDATES, BATCH, LR = 6000, 700, 32, 5e-3
"""Questions of each size that the base was taught; updates."""
ADAM = {"betas": (0.9, 0.98)}
TOKENS = 44
ASKING = Asking(copies=8, tokens=TOKENS, at_once=4096)
LEARNED, TESTED = 500, 1000
"""Seeds of what is learned and of what is asked, beside a run's own."""


def items(size: int, count: int, seed: int) -> list[dict[str, Any]]:
    """Questions of so many starts: `prompt`, `answer`, `tags`."""
    dice = random.Random(f"trails {size} {seed}")
    rows = []
    for _ in range(count):
        middles, ends = (dice.sample(names[:size], size) for names in (MIDDLES, ENDS))
        answer = dice.randrange(size)
        pairs = [*map("".join, zip(STARTS, middles, strict=False)), *map("".join, zip(MIDDLES, ends, strict=False))]
        prompt = " ".join([*pairs, TARGET + ends[int(middles[answer])], ";"])
        rows.append({"prompt": prompt, "answer": STARTS[answer], "tags": [f"{size} starts"]})
    return rows


def attempt(prompt: str, start: str) -> str:
    """A try, and whether it ends rightly."""
    *pairs, target, _ = prompt.split()
    leads = {pair[0]: pair[1] for pair in pairs}
    middle = leads[start]
    end = leads[middle]
    return f"{start} {middle} {end} {YES if target == TARGET + end else NO}"


def _starts(row: Mapping[str, Any]) -> str:
    return STARTS[: len(row["prompt"].split()) // 2 - 1]


def trace(row: Mapping[str, Any], wrong: int, dice: random.Random, *, right: bool = True, again: float = 0.0) -> str:
    """So many wrong tries, no two alike, the right one, and the answer; not `right`: one more that is wrong, and is
    answered all the same. A part `again` of the wrong ones is made twice."""
    others = [start for start in _starts(row) if start != row["answer"]]
    tries = [start for each in dice.sample(others, wrong + (not right)) for start in [each] * _times(dice, again)]
    tries += [row["answer"]] * right
    return _told(row["prompt"], tries, tries[-1])


def _times(dice: random.Random, again: float) -> int:
    return 2 if again and dice.random() < again else 1


def wandering(row: Mapping[str, Any], dice: random.Random) -> str:
    """Tries at random, no two alike, and the answer that was found, or else what was tried last."""
    tries = dice.sample(_starts(row), dice.randint(1, len(_starts(row))))
    return _told(row["prompt"], tries, row["answer"] if row["answer"] in tries else tries[-1])


def _told(prompt: str, tries: Sequence[str], answer: str) -> str:
    return " ".join([*(attempt(prompt, start) for start in tries), ANSWER, answer])


def blocks(rows: Sequence[Mapping[str, Any]], traces: Sequence[str]) -> Rows:
    """Rows whose traces, and the end after them, are learned."""
    prompts, answers = (tokenizer()(list(texts))["input_ids"] for texts in ([row["prompt"] for row in rows], traces))
    ends = [[*answer, tokenizer().eos_token_id] for answer in answers]
    return answer_blocks(Padded.of(prompts), Padded.of(ends)).having(row=torch.arange(len(rows)))


def asked(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows to write after: `prompt`, `prompt_ids`, `answer`, `skills`, `row`."""
    prompts = [row["prompt"] for row in rows]
    return Rows(
        {
            "prompt": prompts,
            "prompt_ids": tokenizer()(prompts)["input_ids"],
            "answer": [row["answer"] for row in rows],
            "skills": [tuple(row["tags"]) for row in rows],
            "row": torch.arange(len(rows)),
        }
    )


def fresh(seed: int, size: int, count: int = 300) -> Rows:
    """Fresh questions, as `asked` gives them."""
    return asked(items(size, count, TESTED + seed))


def judge() -> Transform:
    """Whether the answer of a trace is right."""
    return verified(marker=ANSWER)


def base(seed: int) -> CausalLM:
    """A model that tries at random."""
    return copy.deepcopy(_base(seed))


@cache
def _base(seed: int) -> CausalLM:
    dice = random.Random(f"wandering {seed}")
    rows = [row for size in (EASY, HARD) for row in items(size, TAUGHT, seed)]
    model = llama.llama(tokenizer(), width=WIDTH, depth=DEPTH, context=CONTEXT, seed=seed)
    with torch.no_grad():
        for weights in model.module.parameters():
            weights *= SPREAD if weights.dim() > 1 else 1.0
    learned = blocks(rows, [wandering(row, dice) for row in rows])
    return taught(model, learned, Training(UPDATES, BATCH, LR, knobs=ADAM, seed=seed, log_every=UPDATES))


def warmed(
    seed: int,
    sizes: Sequence[int],
    traces: Callable[[Mapping[str, Any], random.Random], str],
    count: int,
    *,
    updates: int = 100,
    lr: float = 1e-3,
) -> CausalLM:
    """The base after a warm-up on so many traces of each size."""
    dice = random.Random(f"warmed {seed}")
    rows = [row for size in sizes for row in items(size, count, LEARNED + seed)]
    learned = blocks(rows, [traces(row, dice) for row in rows])
    return taught(base(seed), learned, Training(updates, BATCH, lr, seed=seed, log_every=updates))


def workshop(
    model: CausalLM,
    seed: int,
    sizes: Sequence[int],
    each: int,
    steps: int,
    meter: Meter | None = None,
    *,
    batch: int = 128,
    lr: float = 3e-4,
) -> Workshop:
    """A model, and so many questions of each size, of which the answers are judged, to learn from."""
    questions = asked([row for size in sizes for row in items(size, each, LEARNED + seed)])
    training = Training(steps, batch, lr, seed=seed, log_every=10)
    return Workshop(model, Lesson(questions, judge(), ASKING), training, InMemory(meter))


def scores(model: CausalLM, seed: int, size: int, count: int = 300, *, tokens: int = TOKENS) -> dict[str, float]:
    """Of what is likeliest after fresh questions: how much is `right`, in percent, how many `tries` there are, how many
    of them `different` ones, and how many tokens in all (`length`)."""
    asking = ASKING._replace(copies=1, tokens=tokens, how=Sampling(0.0))
    with one_thread(), uncounted():
        answers = tried(model, fresh(seed, size, count), judge(), asking, still(model, torch.Generator()))
    found = [attempts(text) for text in answers.rows["written"]]
    return {
        "right": 100 * float((answers.rewards >= 1).double().mean()),
        "tries": sum(map(len, found)) / count,
        "different": sum(len(set(each)) for each in found) / count,
        "length": float(answers.written.lengths.double().mean()),
    }


def attempts(written: str) -> list[str]:
    """The tries of a trace, each as its words."""
    before = written.partition(ANSWER)[0].replace(YES, NO)
    return [" ".join(each.split()) for each in before.split(NO)[:-1]]


def found_after(prompt: str, answer: str, written: str) -> int | None:
    """How many words of a trace there are up to the end of its first right try; None: there is none."""
    words, way = written.split(), attempt(prompt, answer).split()[:-1]
    ends = (at + len(way) for at in range(len(words)) if words[at : at + len(way)] == way)
    return next(ends, None)


@cache
def tokenizer() -> Any:
    """One token a word, of which a pair is one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*STARTS, *MIDDLES, *ENDS, *(TARGET + end for end in ENDS), YES, NO, ANSWER, ";", llama.END]
    words += [f"{one}{other}" for names in ((STARTS, MIDDLES), (MIDDLES, ENDS)) for one, other in product(*names)]
    found = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=llama.END))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=found, eos_token=llama.END, pad_token=llama.END)

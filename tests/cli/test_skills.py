"""`learn --skills`: questions become a version, or one line says why not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.evidence.items import Items
from regraft.recipes.answered import Answered, Answering
from regraft.recipes.practise import split
from regraft.recipes.sources import items_of, load_items, store_items
from regraft.recipes.update import load_model
from regraft.store import Line

Run = Callable[..., tuple[str, str]]
QUICK = ("--set", "steps=6", "--set", "batch=16", "--copies", "4", "--answer-tokens", "3", "--unprotected")


def rows(count: int = 60) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{skill} {n} :", "answer": " red" if skill == "say" else f" {n}", "tags": [skill]}
        for n in range(count)
        for skill in ("say", "copy")
    ]


def write_rows(path: Path, found: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from regraft.worlds.llama import bpe, llama, save

    folder = tmp_path_factory.mktemp("skills")
    words = ["say copy red blue : " + " ".join(map(str, range(60)))]
    save(llama(bpe(words, 340), width=16, depth=1, heads=2, context=24, seed=0), folder / "model")
    write_rows(folder / "items.jsonl", rows())
    write_rows(folder / "shown.jsonl", [{"prompt": r["prompt"], "completion": r["answer"]} for r in rows()])
    (folder / "red.py").write_text("def reward(written, item):\n    return float('red' in written)\n")
    return folder


def learn(*more: str) -> tuple[str, ...]:
    return ("learn", "model", "--line", "line", "--skills", "items.jsonl", *QUICK, *more)


def line() -> Line:
    return Line.open("line")


def weights(found: Line) -> dict[str, torch.Tensor]:
    return dict(load_model(found, found.version("head")).state())


def test_what_is_missing_is_shown_and_held_out_questions_are_measured(run: Run) -> None:
    out, err = run(*learn("--shown", "shown.jsonl"))
    assert "map        missing: copy, say" in err
    assert "of questions that are held out" in err
    assert "gate:" in out
    version = line().version("head")
    [suite] = load_items(line(), version)
    assert isinstance(suite, Answered)
    assert suite.how == Answering(tokens=3, copies=4)
    assert len(suite.items) == 24
    assert version.record["recipe"] == "practise"
    assert {use.role for use in version.corpora} == {"new", "asked"}
    run("check", "line", "v1", "v2", code=0 if "gate: accept" in out else 1 if "gate: reject" in out else 3)
    assert "asked" in run("show", "line", "--rows", "400")[0]
    run("report", "line", "-o", "page.html")
    assert "<svg" in Path("page.html").read_text()


def test_held_out_questions_stay_held_out(run: Run) -> None:
    run(*learn("--shown", "shown.jsonl"))
    first = {item.prompt for suite in load_items(line(), line().version("head")) for item in suite.items}
    write_rows(Path("more.jsonl"), rows(90))
    write_rows(Path("other.jsonl"), [{"prompt": f"say {n} :", "completion": " blue"} for n in range(60)])
    _, err = run("learn", "line", "--skills", "more.jsonl", "--shown", "other.jsonl", *QUICK)
    assert "replay     25% of every batch is old text" in err
    suites = load_items(line(), line().version("head"))
    assert [suite.name for suite in suites] == ["items", "more"]
    assert not first & {item.prompt for item in suites[1].items}
    learned, held = split(Items.of("x", rows(90)), suites[:1])
    assert not first & {item.prompt for item in (*learned.items, *held.items)}


def test_nothing_can_be_found_by_trying_what_never_happens(run: Run) -> None:
    _, err = run(*learn())
    assert "left       copy, say: nothing shows them, and trying does not find them" in err
    assert "nothing was learned, so there is no new version" in err
    assert len(line().versions()) == 1
    assert not line().runs()


def test_a_checker_of_ones_own_is_kept_with_the_line(run: Run) -> None:
    run(*learn("--by", "red.py", "--set", "repair=reinforcement"))
    Path("red.py").write_text("def reward(written, item):\n    return 1.0\n")
    [suite] = load_items(line(), line().version("head"))
    assert isinstance(suite, Answered)
    assert "'red' in written" in (suite.how.checker or "")
    run("compare", "line", "v1", "v2")


def test_what_gives_away_a_question_that_is_held_out_is_not_learned(run: Run) -> None:
    dice = random.Random(0)
    ends = [" ".join([*(str(dice.randrange(60)) for _ in range(12)), ":"]) for _ in range(40)]
    twins = [{"prompt": f"{first} {end}", "answer": " 1", "tags": [first]} for end in ends for first in ("say", "copy")]
    write_rows(Path("twins.jsonl"), twins)
    write_rows(Path("shown.jsonl"), [{"prompt": r["prompt"], "completion": r["answer"]} for r in twins])
    learned, measured = split(Items.of("twins", twins))
    words = {item.prompt.split(" ", 1)[1] for item in measured.items}
    near = sum(item.prompt.split(" ", 1)[1] in words for item in learned.items)
    order = ("learn", "model", "--line", "line", "--skills", "twins.jsonl", "--shown", "shown.jsonl", *QUICK)
    _, err = run(*order)
    assert f"skipped    {near} questions that hold more than 50% of one that is held out" in err
    assert "of questions that are held out" in err
    _, err = run(*order[:1], "line", "--base", "v1", *order[4:], "--set", "overlap=1")
    assert "that hold more than" not in err


def test_what_a_checker_cannot_judge_is_counted(run: Run) -> None:
    Path("broken.py").write_text("def reward(written, item):\n    return 1 / ('red' in written)\n")
    _, err = run(*learn("--by", "broken.py", "--set", "repair=reinforcement"))
    found = [one for one in err.splitlines() if "ZeroDivisionError" in one]
    assert [one.split()[0] for one in found] == ["items:", "checker", "items:"]
    run("compare", "line", "v1", "v2")


def pairs() -> list[dict[str, Any]]:
    return [{"prompt": r["prompt"], "chosen": r["answer"], "rejected": " blue"} for r in rows()]


def test_pairs_of_answers_are_learned(run: Run) -> None:
    write_rows(Path("pairs.jsonl"), [*pairs(), pairs()[0]])
    _, err = run(*learn("--preferred", "pairs.jsonl", "--set", "repair=preferences"))
    [found] = [one for one in err.splitlines() if one.startswith("preferred")]
    assert found == "preferred  97 pairs of answers; left out: 24 of questions that are held out"
    version = line().version("head")
    assert {use.role for use in version.corpora} == {"asked", "preferred"}
    more = ("--preferred", "pairs.jsonl", "--by", "red.py", "--set", "repair=reinforcement")
    _, err = run("learn", "line", "--base", "v1", "--skills", "items.jsonl", *QUICK, *more)
    assert "97 pairs were not learned from: reinforcement" in err
    assert "preferred" not in {use.role for use in line().version("head").corpora}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "say 1 :", "chosen": " red"}, "field `rejected` is missing"),
        ({"prompt": "say 1 :", "chosen": " red", "rejected": " red"}, "`chosen` and `rejected` are the same"),
        ({"prompt": "say 1 :", "chosen": " red", "rejected": ["red"]}, "field `rejected` must be a string"),
        ({"prompt": 3, "chosen": " red", "rejected": " blue"}, "field `prompt` must be a string"),
        ({"chosen": [{"role": "assistant", "content": "red"}], "rejected": "x"}, "field `rejected` must be a list"),
        (3, "not an object"),
    ],
)
def test_a_bad_pair_is_one_line(run: Run, row: Any, says: str) -> None:
    write_rows(Path("pairs.jsonl"), [pairs()[0], row])
    _, err = run(*learn("--preferred", "pairs.jsonl", "--set", "repair=preferences"), code=2)
    assert f"pairs.jsonl:2: {says}" in err
    assert not line().runs()
    _, err = run(*learn("--preferred", "pairs.jsonl", "--set", "repair=preferences", "--skip-bad"))
    assert "skipped    1 pairs of pairs.jsonl" in err


def test_only_the_plan(run: Run) -> None:
    _, err = run(*learn("--shown", "shown.jsonl", "--plan-only"))
    assert "repair     diagnosed(" in err
    assert len(line().versions()) == 1
    assert not line().runs()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--shown", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--data", "shown.jsonl"), "new text and skills are two updates"),
        (("--by", "nobody"), "'nobody' is neither exact nor number"),
        (("--by", "none.py"), "none.py"),
        (("--set", "repair=relfit"), "did you mean 'relift'"),
        (("--set", "steps=0"), "steps"),
        (("--set", "repair=imitation"), "there are no demonstrations"),
        (("--answer-tokens", "30"), "prompts leaves room for 30 tokens"),
        (("--chat",), "no chat template"),
    ],
)
def test_what_is_refused(run: Run, more: tuple[str, ...], said: str) -> None:
    out, err = run(*learn(*more), code=2)
    assert said in " ".join((out + err).split())
    assert len(err.strip().splitlines()[-1]) < 400
    assert not Line.is_line(Path("line")) or len(line().versions()) <= 1


def test_demonstrations_without_questions_are_refused(run: Run) -> None:
    _, err = run("learn", "model", "--shown", "shown.jsonl", code=2)
    assert "demonstrations are of skills" in err


def test_too_few_questions(run: Run) -> None:
    write_rows(Path("items.jsonl"), rows()[:1])
    _, err = run(*learn("--shown", "shown.jsonl"), code=2)
    assert "too few to learn and to measure" in err


def test_suites_of_answers_are_stored_as_they_are(tmp_path: Path) -> None:
    made = Line.create(tmp_path / "line")
    how = Answering("own", "def reward(w, i):\n    return 1\n", stop=("\n",), chat=True)
    suite = Answered("quiz", Items.of("quiz", rows(3)).items, how=how)
    again = items_of(made, store_items(made, suite))
    assert again == suite
    assert again.fingerprint == suite.fingerprint
    assert again.fingerprint != Answered("quiz", suite.items).fingerprint


TEMPLATE = (
    "{% if tools %}[{% for tool in tools %}{{ tool.function.name }} {% endfor %}]{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% for call in m.tool_calls or [] %}"
    "!{{ call.function.name }}{% endfor %}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def talk(n: int) -> list[dict[str, Any]]:
    """Two turns with a tool call between, of which the last asks."""
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    return [
        {"role": "user", "content": f"copy {n} :"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": f"{n}"},
    ]


@pytest.mark.parametrize("family", ["llama", "qwen"])
@pytest.mark.parametrize("moving", ["full", "lora"])
def test_conversations_with_tools_are_asked_and_shown(family: str, moving: str, tmp_path: Path, run: Run) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    from regraft.worlds.llama import bpe

    tokenizer = bpe(["copy look user assistant tool : " + " ".join(map(str, range(40)))], 340)
    tokenizer.chat_template = TEMPLATE
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 340}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 96}
    size |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.eos_token_id}
    network = (
        LlamaForCausalLM(LlamaConfig(**size))
        if family == "llama"
        else Qwen3ForCausalLM(Qwen3Config(**size, head_dim=8))
    )
    network.save_pretrained(tmp_path / "talker")
    tokenizer.save_pretrained(tmp_path / "talker")
    asked = [{"messages": talk(n), "tools": TOOLS, "answer": f"{n}", "tags": ["copy"]} for n in range(40)]
    shown = [{"messages": [*talk(n), {"role": "assistant", "content": f"{n}"}], "tools": TOOLS} for n in range(40)]
    write_rows(Path("asked.jsonl"), asked)
    write_rows(Path("told.jsonl"), shown)
    more = ("--set", "trainables=[{lora: {r: 2}}]") if moving == "lora" else ()
    order = ("learn", "talker", "--line", "talks", "--skills", "asked.jsonl", "--shown", "told.jsonl", *QUICK, *more)
    _, err = run(*order)
    assert "demonstrations, 0 of them of these questions" not in err
    assert "of questions that are held out" in err
    [suite] = load_items(Line.open("talks"), Line.open("talks").version("head"))
    assert all(item.chat for item in suite.items)
    run("diagnose", "talks", "--items", "asked.jsonl", "--answer-tokens", "3", "--copies", "2")
    write_rows(Path("likely.jsonl"), asked)
    _, err = run("eval", "talks", "--suite", "likely.jsonl", code=2)
    assert "`messages` are answered in words" in err


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [], "answer": "a"}, "empty messages"),
        ({"messages": [{"role": "assistant", "content": "a"}], "answer": "a"}, "the last of `messages`"),
        ({"messages": [{"role": "user"}], "answer": "a"}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a"}], "prompt": "a", "answer": "a"}, "keep one"),
        ({"messages": [{"role": "user", "content": "a"}]}, "`answer` is missing"),
    ],
)
def test_conversations_that_cannot_be_asked(run: Run, row: dict[str, Any], said: str) -> None:
    write_rows(Path("bad.jsonl"), [row])
    _, err = run("diagnose", "model", "--items", "bad.jsonl", code=2)
    assert said in err
    assert "bad.jsonl:1" in err


KILLED = """
import os, signal, sys
import regraft.parts.samplers.rollouts as rollouts
real, left = rollouts.write_after, [int(sys.argv.pop(1))]
def write(*args, **kw):
    left[0] -= 1
    written = real(*args, **kw)
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return written
rollouts.write_after = write
from regraft.cli import main
main()
"""


def test_a_run_that_is_killed_in_the_middle_of_a_rollout_ends_in_the_same_version(run: Run) -> None:
    order = learn("--by", "red.py", "--set", "repair=reinforcement", "--checkpoint-seconds", "0")
    run(*order)
    whole = line().version("head").id
    again = [w if w != "line" else "again" for w in order]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "4", *again], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(Line.open("again").versions()) == 1
    run("learn", "again", "--resume")
    assert Line.open("again").version("head").id == whole

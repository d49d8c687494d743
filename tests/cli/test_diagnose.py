"""`regraft diagnose`: a table of skills, from a folder or a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.core.errors import RegraftError
from regraft.recipes.adoption import adopt
from regraft.worlds import llama

CHECKER = 'def reward(written, item):\n    return 1 if item["prompt"].startswith("good") or "a" in written else 0\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    tokenizer = llama.bpe([], 0)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}{{ 'A:' }}"
    model = llama.llama(tokenizer, width=16, depth=1, heads=2, context=24, seed=0)
    model.module.save_pretrained(made)
    for name, content in model.files.items():
        (made / name).write_bytes(content)
    rows = [{"prompt": f"{kind} {i}", "answer": str(i), "tags": [kind]} for kind in ("good", "bad") for i in range(5)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (made.parent / "items.jsonl").write_text(text + json.dumps({"prompt": "long " * 9, "answer": "x"}) + "\n")
    (made.parent / "checker.py").write_text(CHECKER)
    return made


def said(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["diagnose", *arguments], env={"COLUMNS": "100"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_table_of_skills_with_a_checker_of_ones_own(folder: Path, tmp_path: Path) -> None:
    common = (
        "--items",
        str(folder.parent / "items.jsonl"),
        "--by",
        str(folder.parent / "checker.py"),
        "--answer-tokens",
        "3",
    )
    shown = said(str(folder), *common)
    assert "good" in shown.stdout
    assert "known" in shown.stdout
    assert all(len(line) <= 100 for line in shown.stdout.splitlines())
    assert "1 items: empty, or no room for 3 tokens" in shown.output
    line, _ = adopt(str(folder), tmp_path / "line")
    tables = [json.loads(said(str(where), *common, "--json").stdout) for where in (folder, line.path)]
    assert tables[0] == tables[1]
    rates = {skill["skill"]: skill["rate"] for skill in tables[0]["skills"]}
    assert rates["good"] == 1.0 > rates["bad"]
    assert tables[0]["skipped"] == {"empty, or no room for 3 tokens after it in the model's context": 1}


def test_prompts_go_through_the_chat_template(folder: Path) -> None:
    from regraft.evidence.items import Items
    from regraft.models.causal import CausalLM
    from regraft.recipes.questions import asked
    from regraft.store.folder import read_folder

    files, tensors = read_folder(folder)
    model = CausalLM.from_files({n: p.read_bytes() for n, p in files.items()}, dict(tensors))
    items = Items.read(folder.parent / "items.jsonl")
    rows, _ = asked(model, items, tokens=3, chat=True)
    assert model.tokenizer.decode(rows["prompt_ids"][0]) == "<good 0>A:"
    assert rows["answer"][3] == ["3"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--by", "nope"), "neither exact nor number"),
        (("--by", "nope.py"), "No such file"),
        (("--answer-tokens", "99"), "none of 11 prompts leaves room for 99 tokens"),
        (("--version", "v2"), "no versions"),
        (("--items", "nope.jsonl"), "nope.jsonl"),
    ],
    ids=lambda v: str(v),
)
def test_what_cannot_be_asked_is_said(folder: Path, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(RegraftError, match=words):
        said(str(folder), "--items", str(folder.parent / "items.jsonl"), *options)

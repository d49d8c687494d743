"""`compare`, `check`, `promote` and `report` on a real line: a tiny model, two texts, questions."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from regraft import cli
from regraft.recipes import readings
from regraft.store import Line

CONTEXT = 32
STRICT = '{"suites": {"*": {"worse_by_at_most": 0}}}'
LAX = '{"suites": {"*": {"worse_by_at_most": 9}}, "items_at_least": 2}'
BEYOND = '{"suites": {"*": null, "fruit": {"better_by_at_least": 99}}, "items_at_least": 2}'


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


def _texts(words: str, count: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    rows = [" ".join(rng.choice(words.split(), 24)) + f" {i}." for i in range(count)]
    return "".join(json.dumps({"text": row}) + "\n" for row in rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line with v1 adopted, v2 learned fruit, v3 learned tools, and a branch v4 from v2 that learned fruit again."""
    from regraft.evidence.items import Items
    from regraft.recipes import texts
    from regraft.recipes.adoption import adopt
    from regraft.recipes.learn import learn
    from regraft.recipes.sources import Sources, load_items
    from regraft.recipes.texts import Text
    from regraft.recipes.update import Update, load_tokenizer
    from regraft.worlds.llama import bpe, llama, save

    folder = tmp_path_factory.mktemp("judge")
    fruit, tools = "apple pear plum fig lime red ripe sweet", "saw hammer nail drill bolt steel hard sharp"
    (folder / "fruit.jsonl").write_text(_texts(fruit, 160, 0))
    (folder / "tools.jsonl").write_text(_texts(tools, 160, 1))
    questions = [
        {"prompt": f"{a} {b}", "choices": [f" {a}", " zzz"], "answer": 0, "tags": ["fruit" if a in fruit else "tools"]}
        for a in (fruit + " " + tools).split()
        for b in ("red", "hard")
        if a != b
    ]
    (folder / "quiz.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    tokenizer = bpe([fruit, tools], 320)
    save(llama(tokenizer, width=16, depth=1, heads=2, context=CONTEXT), folder / "model")
    line, base = adopt(str(folder / "model"), folder / "line")
    with pytest.MonkeyPatch.context() as patch, line.writing():
        patch.setenv("REGRAFT_CACHE", str(folder / "cache"))
        for number, (name, parent) in enumerate((("fruit", base.id), ("tools", "v2"), ("fruit", "v2"))):
            base = line.version(parent)
            new = texts.store(line, texts.read([str(folder / f"{name}.jsonl")], load_tokenizer(line, base)))
            sources = Sources(
                Text.open(line, new),
                past=texts.past(line, base),
                items=[] if number else [Items.read(folder / "quiz.jsonl")],
                carried=load_items(line, base),
                message=f"learned {name} [{number}]",
            )
            recipe = learn(tokens=4096, batch_tokens=512, lr=0.01, replay=None if number == 0 else 0.25)
            recipe(Update(line, base, f"run-{number}"), sources)
    return folder


@pytest.fixture
def run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line on a copy of the line, in an empty folder."""
    shutil.copytree(world / "line", tmp_path / "line")
    monkeypatch.chdir(tmp_path)
    for name, policy in (("strict", STRICT), ("lax", LAX), ("beyond", BEYOND)):
        Path(f"{name}.json").write_text(policy)

    def run(*arguments: str) -> Said:
        from regraft.cli import live

        monkeypatch.setattr(live.out, "_file", None)
        monkeypatch.setattr(live.out, "_width", 100)
        monkeypatch.setattr(sys, "argv", ["regraft", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert isinstance(left.value.code, int)
        return Said(left.value.code, *capfd.readouterr())

    return run


def measured(world: Path, a: str, b: str) -> readings.Sides:
    line = Line.open(world / "line")
    return readings.both(line, line.version(a), line.version(b))


def test_an_update_is_compared_by_its_own_readings(world: Path) -> None:
    sides = measured(world, "v2", "v3")
    assert list(sides.before) == list(sides.after) == ["tools", "fruit", "quiz"]
    assert sides.measured == ()
    line = Line.open(world / "line")
    own = readings.own(line, line.version("v3"))
    assert {n: r.mean for n, r in sides.before.items()} == {n: r.mean for n, r in own.before.items()}
    assert {n: r.mean for n, r in sides.after.items()} == {n: r.mean for n, r in own.after.items()}


def test_what_was_never_read_is_measured_now(world: Path) -> None:
    """v1 was read on fruit by the update that began there, on tools by none."""
    sides = measured(world, "v1", "v3")
    assert sides.measured == ("tools",)
    assert set(sides.before) == {"tools", "fruit", "quiz"}
    assert measured(world, "v3", "v2").measured == ()


def test_measuring_again_gives_what_was_stored(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = measured(world, "v2", "v3")
    monkeypatch.setattr(readings, "known", lambda line, version: {})
    again = measured(world, "v2", "v3")
    assert set(again.measured) == {"tools", "fruit", "quiz"}
    for old, new in ((stored.before, again.before), (stored.after, again.after)):
        for name, reading in old.items():
            assert new[name].ids == reading.ids
            np.testing.assert_allclose(new[name].values, reading.values, rtol=1e-6)


def test_branches_compare_on_the_suites_of_both(world: Path) -> None:
    sides = measured(world, "v3", "v4")
    assert set(sides.before) == set(sides.after)
    assert sides.measured == ("tools",)  # v4's branch never read it


def test_compare_shows_both_sides_and_the_skills(run: Run) -> None:
    said = run("compare", "line", "v2", "v3")
    assert said.code == 0
    for word in ("tools (", "fruit (", "quiz (", "95% interval", "learned tools [1]"):
        assert word in said.out
    assert all(len(row) <= 100 for row in said.out.splitlines())
    rows = [row.split("(")[0] for row in said.out.splitlines() if "(" in row]
    at = rows.index("quiz ")
    assert rows[at + 1 : at + 3] == ["  fruit ", "  tools "]


def test_compare_as_json(run: Run) -> None:
    found = json.loads(run("compare", "line", "v1", "v3", "--json").out)
    assert found["measured_now"] == ["tools"]
    assert {row["suite"] for row in found["suites"]} == {"tools", "fruit", "quiz"}
    assert {row["tag"] for row in found["skills"]} == {"fruit", "tools"}


GATE = [("lax", 0, "accept"), ("beyond", 1, "reject"), ("strict", 3, "cannot tell")]


@pytest.mark.parametrize(("policy", "code", "word"), GATE)
def test_the_gate_answers_by_exit_code(run: Run, policy: str, code: int, word: str) -> None:
    said = run("check", "line", "v3", "v3", "--policy", f"{policy}.json")
    assert said.code == code
    assert f"gate: {word}" in said.out
    found = run("check", "line", "v3", "v3", "--policy", f"{policy}.json", "--json")
    assert found.code == code
    assert json.loads(found.out)["exit_code"] == code


def test_promotion_needs_the_gate(run: Run) -> None:
    first = run("promote", "line", "v1", "--as", "base")
    assert first.code == 0
    assert "judged against nothing" in first.out
    refused = run("promote", "line", "v2", "--policy", "beyond.json")
    assert (refused.code, "released is not set" in refused.out) == (1, True)
    assert run("promote", "line", "v2", "--policy", "lax.json").code == 0
    assert run("promote", "line", "v3", "--policy", "beyond.json").code == 1
    assert run("promote", "line", "v3", "--policy", "strict.json").code == 3
    line = Line.open("line")
    assert line.pointers()["released"] == line.version("v2").id
    moved = run("promote", "line", "v3", "--policy", "lax.json")
    assert moved.code == 0
    assert "from v2" in moved.out
    assert line.pointers()["released"] == line.version("v3").id
    assert "names v3" in run("promote", "line", "v3").out
    whys = [event.why for event in line.events() if event.what == "promote"]
    assert len(whys) == 3
    assert "nothing to judge it against" in whys[0]
    assert "accept against v1" in whys[1]
    assert "accept against v2" in whys[2]


def test_promotion_anyway_is_written_down(run: Run) -> None:
    run("promote", "line", "v2", "--as", "staging", "--policy", "lax.json")
    said = run("promote", "line", "v3", "--as", "staging", "--policy", "beyond.json", "--anyway")
    assert said.code == 0
    line = Line.open("line")
    assert line.pointers()["staging"] == line.version("v3").id
    assert line.events()[-1].why.startswith("anyway, though the gate says reject against v2")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("compare", "line", "v9"), "no version 'v9'"),
        (("compare", "line", "v1", "v1"), "neither v1 nor v1 was measured"),
        (("compare", "line", "v2", "v3", "--alpha", "1.5"), "--alpha"),
        (("compare", "nowhere", "v1"), "there is no line here"),
        (("check", "line", "v2", "v3", "--policy", "none.yaml"), "none.yaml"),
        (("promote", "line", "v3", "--as", "head"), "'head' cannot name a pointer"),
        (("promote", "line", "v3", "--as", "a b"), "'a b' cannot name a pointer"),
        (("report", "line", "--format", "htm"), "did you mean 'html'"),
        (("report", "line", "-o", "no/folder/x.html"), "no/folder/x.html: cannot write"),
        (("report", "line", "-o", "line"), "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(run: Run, arguments: tuple[str, ...], word: str) -> None:
    said = run(*arguments)
    assert said.code == 2
    assert word in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["beyond.json", "lax.json", "line", "strict.json"]


def test_a_damaged_reading_is_named(run: Run) -> None:
    line = Line.open("line")
    ref = line.version("v3").bundles["evidence/after/fruit"]["values"]
    path = line.blobs.path(ref.digest)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for arguments in (("compare", "line", "v2", "v3"), ("report", "line", "v3")):
        said = run(*arguments)
        assert said.code == 4
        assert ref.digest[:8] in said.err.replace("/", "")


def test_reports_in_three_formats(run: Run) -> None:
    said = run("report", "line", "v3")
    assert said.out.strip() == "line-v3.html"
    page = Path("line-v3.html").read_text()
    assert "learned tools" in page
    assert "new text" in page
    assert len(page.encode()) < 100_000
    assert run("report", "line", "v3", "--format", "md").out.startswith("# line v3: learned tools")
    facts = json.loads(run("report", "line", "v3", "--format", "json").out)
    assert facts["roles"] == {"tools": "new text", "fruit": "old text", "quiz": "questions"}
    assert {use["role"] for use in facts["used"]} == {"new", "replay"}
    assert run("report", "line", "v1", "-o", "first.html").out.strip() == "first.html"


def test_after_learning_the_two_sides_are_shown(world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from regraft.cli import live
    from regraft.cli.judge import show_comparison

    line = Line.open(world / "line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.out, "_file", None)
        show_comparison(line, line.version("v3"))
        show_comparison(line, line.version("v1"))
    said = capfd.readouterr()
    assert "tools (" in said.out
    assert "gate: " in said.out
    assert "nothing was measured" in said.err


def test_the_commands_start_without_torch() -> None:
    import subprocess

    code = "import sys, regraft.cli.judge; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

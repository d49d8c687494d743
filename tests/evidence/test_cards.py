"""Cards are read from files alone: words, knobs, standing; and the pages that are made from them."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from regraft.core.errors import RegraftError
from regraft.evidence import pages
from regraft.evidence.cards import (
    BESIDE_PARTS,
    FINDING,
    KINDS,
    Card,
    Knob,
    Paper,
    Tree,
    card,
    cards,
    code,
    standing,
    tree_at,
)
from regraft.evidence.claims import renew
from regraft.evidence.tags import MEANING

REPO = Path(__file__).parents[2]
CATALOGUE = REPO.parent / "shared" / "catalogue" / "abstracts.jsonl"

EWC = '''
"""Elastic weight consolidation: hold each weight in proportion to how much the past relied on it.

    penalty = 1/2 sum_i F_i (w_i - w*_i)^2
        F_i = E[(d log p / d w_i)^2]

    and a second block

The first paragraph
goes on.

Paper:   "Overcoming catastrophic forgetting in neural networks" Kirkpatrick et al. 2017.
         https://arxiv.org/abs/1612.00796
Paper:   "Rethinking the "Heatmap" Paradigm: A | B" https://example.org/b.
Claim:   higher average accuracy than
         plain fine-tuning.
Needs:   rows `past`.   Leaves: `ewc.fisher`: the importance.
Differs: nothing; note: it is exact.
Tags:    exemplar-free, task-free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import regraft.numerics.fisher
from regraft.core.errors import RegraftError


class Decaying:
    decay: float = 1.0
    rows: int = 1


@dataclass(frozen=True)
class ewc(Decaying):
    """Not the card."""

    source: str
    state: ClassVar[tuple[str, ...]] = ()
    rows: int | None = None
    shares: dict[str, float] = field(default_factory=dict)
    made: int = field(init=False, default=0)
    width: int = field(default=3, repr=False)

    def begin(self) -> None:  # nothing
        pass
'''


def tree(root: Path, **files: str) -> Path:
    """A package folder; keys are paths with `__` for a slash."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + (".json" if "records" in name else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"), encoding="utf-8")
    return root


def record(root: Path, name: str, verdict: str = "shown") -> Path:
    """A record for the code as it is now."""
    now = code(name, tree_at(root))
    body = {
        "says": "it is better",
        "setting": "a small world",
        "seeds": [0, 1, 2],
        "calibrated_on": [100],
        "scores": {"plain": {"loss | old": [2.0, 2.5, 3.0]}, "ours": {"loss | old": [1.0, 1.5, 2.0]}},
        "budget": "tokens",
        "unequal": {"union": "costs the sum"},
        "counts": {"plain": {"tokens": [4000, 4000, 4000]}, "ours": {"tokens": [4000, 4000, 4000]}},
        "tests": [
            {
                "score": "loss | old",
                "better": "ours",
                "than": "plain",
                "gap": 1.0,
                "margin": 0.05,
                "interval": [0.9, 1.1],
                "verdict": "shown",
                "why": "",
            }
        ],
        "null": {"arm": "ours at 0", "baseline": "plain", "equal": True},
        "standing": verdict,
        "seconds": {"plain": 1.25, "ours": 1.5},
        "code": {"hash": now.hash, "files": dict(now.files)},
        "versions": {"python": "3.11"},
        "threads": 1,
    }
    path = tree_at(root).record(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(
        tmp_path,
        parts__penalties__ewc=EWC,
        parts__penalties____init__="raise SystemExit",
        parts__penalties___shared='"""Not a method."""',
        numerics__fisher="def diagonal():\n    return 1\n",
        claims__ewc="import regraft.parts.penalties.ewc\nfrom regraft.worlds import digits\nclaim = 1\n",
        worlds__digits="ROWS = 10\n",
    )


# --- words and knobs --------------------------------------------------------------------------------------------------


def test_what_claims_nothing_is_not_unmeasured(tmp_path: Path) -> None:
    block = '"""A constant."""\n\n\ndef constant() -> None: ...\n'
    root = tree(tmp_path, parts__schedules__constant=block)
    assert card("constant", root).standing == "no claim"
    tree(tmp_path, parts__schedules__constant=block.replace(".", ".\n\nClaim: it stays.", 1))
    assert card("constant", root).standing == "unmeasured"


def test_the_words_of_a_card(root: Path) -> None:
    found = card("ewc", root)
    assert (found.name, found.kind, found.standing, found.measured) == ("ewc", "penalty", "unmeasured", None)
    assert found.headline.startswith("Elastic weight consolidation: hold")
    assert found.formula == (
        "penalty = 1/2 sum_i F_i (w_i - w*_i)^2\n    F_i = E[(d log p / d w_i)^2]\n\nand a second block"
    )
    assert found.prose == "The first paragraph\ngoes on."
    assert found.papers == (
        Paper(
            "Overcoming catastrophic forgetting in neural networks",
            "Kirkpatrick et al. 2017",
            "https://arxiv.org/abs/1612.00796",
        ),
        Paper('Rethinking the "Heatmap" Paradigm: A | B', "", "https://example.org/b"),
    )
    assert found.claim == "higher average accuracy than plain fine-tuning."
    assert found.needs == "rows `past`."
    assert found.leaves == "`ewc.fisher`: the importance."
    assert found.differs == "nothing; note: it is exact."
    assert found.tags == ("exemplar-free", "task-free")


def test_the_knobs_of_a_dataclass(root: Path) -> None:
    assert card("ewc", root).knobs == (
        Knob("decay", "float", "1.0"),
        Knob("rows", "int | None", "None"),
        Knob("source", "str", None),
        Knob("shares", "dict[str, float]", "dict()"),
        Knob("width", "int", "3"),
    )


@pytest.mark.parametrize(
    "source",
    [
        "@loss\ndef dpo(view, *, beta: float = 0.1, label: str, mode=(\n    1,\n    2,\n)):\n    return view",
        "def make(view, extra=1, *, beta: Annotated[float, Field(ge=0)] = 0.1, label: str, mode=(1, 2)):\n    ...\n"
        "dpo = loss(make)",
    ],
)
def test_the_knobs_of_a_function_decorated_or_wrapped(tmp_path: Path, source: str) -> None:
    tree(tmp_path, parts__losses__dpo=f'"""Prefer β."""\n\n{source}\n')
    knobs = (Knob("beta", "float", "0.1"), Knob("label", "str", None), Knob("mode", "", "(1, 2)"))
    assert card("dpo", tmp_path).knobs == knobs


def test_json_has_the_promised_keys(root: Path) -> None:
    record(root, "ewc")
    said = json.loads(json.dumps(card("ewc", root).to_json()))
    promised = "name kind headline papers knobs standing tags measured claim differs needs leaves formula"
    assert list(said) == promised.split()
    assert said["papers"][0].keys() == {"title", "url"}
    assert said["knobs"][2] == {"name": "source", "type": "str", "default": None}
    assert said["measured"]["tests"][0]["gap"] == 1.0
    assert not {"code", "versions", "standing"} & said["measured"].keys()


def test_every_kind_is_found_by_its_place_and_sorted(tmp_path: Path) -> None:
    for n, folder in enumerate(KINDS):
        at = folder if folder in BESIDE_PARTS else f"parts__{folder}"
        tree(tmp_path, **{f"{at}__m{20 - n}": f'"""One line."""\n\ndef m{20 - n}(*, x=1): ...\n'})
    tree(tmp_path, recipes__update='"""What recipes are made with."""\n\nclass Update: ...\n')
    tree(tmp_path, claims__together='"""Two methods at once.\n\nTags: finding\n"""\n')
    found = cards(tmp_path)
    assert [c.kind for c in found] == [*KINDS.values(), FINDING]
    assert found[-1].name == "together"
    assert found[-1].knobs == ()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('"""Head\nline."""', 1, "longer than one line"),
        ('"""Head.\n\nPapers: x\n\nTags: y\n"""', 3, "'Paper'"),
        ('"""Head.\n\nClaim: x\nClaim: y\n"""', 4, "a second field 'Claim'"),
        ('"""Head.\n\nTags: y\n\nPaper: A Title. Someone 2024. https://x.org\n"""', 5, "not a paper"),
        ('"""Head.\n\nTags: y\n\nmore prose\n"""', 5, "text after the fields"),
        ("x = 1", 1, "no docstring"),
        ("", 1, "no docstring"),
        ('"""Head."""\n\ndef other(): ...', 1, "defines no class or function 'bad'"),
        ('"""Head."""\n\nbad = loss(bad)', 1, "defines no class or function"),
        ('"""Head."""\n\ndef bad(:\n    pass', 3, "not Python"),
        ('"""Head.\x00"""', 1, "not Python"),
    ],
)
def test_a_broken_file_is_one_line_and_hides_no_other(root: Path, text: str, line: int, says: str) -> None:
    tree(root, parts__losses__bad=text)
    errors: list[RegraftError] = []
    assert [c.name for c in cards(root, broken=errors.append)] == ["ewc"]
    [error] = errors
    assert says in str(error)
    assert f"bad.py:{line}: " in str(error)
    assert "\n" not in str(error)
    with pytest.raises(RegraftError):
        cards(root)
    assert card("ewc", root).name == "ewc"


def test_an_unknown_name_gets_the_nearest(root: Path) -> None:
    with pytest.raises(RegraftError, match="no method named 'ewd'; did you mean 'ewc'"):
        card("ewd", root)


def test_two_methods_of_one_name(root: Path) -> None:
    tree(root, parts__losses__ewc='"""Head."""\n\ndef ewc(): ...\n')
    with pytest.raises(RegraftError, match="a second method named 'ewc'"):
        cards(root)


def test_no_methods_at_all(tmp_path: Path) -> None:
    assert cards(tmp_path) == []


# --- third parties ----------------------------------------------------------------------------------------------------


def test_third_parties_are_read_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("", "methods/"):
        path = tmp_path / "acme" / f"{package}__init__.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise RuntimeError('imported')")
    tree(
        tmp_path / "acme" / "methods",
        losses__acme_loss='"""Acme."""\n\nfrom ..shared import one\n\ndef acme_loss(*, k=1): ...\n',
        claims__acme_loss="from acme.methods.losses import acme_loss\nimport regraft.numerics.paired\n",
    )
    tree(tmp_path / "acme" / "methods", shared="one = 1")
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[regraft.parts]\nacme = acme.methods\ngone = nowhere.at.all\n")
    monkeypatch.syspath_prepend(tmp_path)
    errors: list[RegraftError] = []
    found = {c.name: c for c in cards(broken=errors.append)}
    assert found["acme_loss"].kind == "loss"
    assert any("'nowhere.at.all'" in str(e) for e in errors)
    root = tmp_path / "acme" / "methods"
    files = code("acme_loss", Tree("acme.methods", root, root)).files
    assert list(files) == [
        "acme/methods/claims/acme_loss.py",
        "acme/methods/losses/acme_loss.py",
        "acme/methods/shared.py",
        "regraft/numerics/paired.py",
    ]


# --- standing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["shown", "not shown", "cannot tell"])
def test_a_fresh_record_gives_its_verdict(root: Path, verdict: str) -> None:
    record(root, "ewc", verdict)
    assert card("ewc", root).standing == standing("ewc", tree_at(root)) == verdict


def test_evidence_stands_on_the_method_its_claim_and_what_they_import(root: Path) -> None:
    names = ["claims/ewc", "numerics/fisher", "parts/penalties/ewc", "worlds/digits"]
    assert list(code("ewc", tree_at(root)).files) == [f"regraft/{n}.py" for n in names]


@pytest.mark.parametrize("file", ["parts/penalties/ewc", "claims/ewc", "numerics/fisher", "worlds/digits"])
def test_words_and_layout_leave_evidence_fresh_and_code_makes_it_stale(root: Path, file: str) -> None:
    record(root, "ewc")
    path = root / f"{file}.py"
    before = path.read_text()
    path.write_text(f"# a comment\n{before.replace('relied', 'had leant')}\n\n'a text'\n")
    assert card("ewc", root).standing == "shown"
    path.write_text(f"{before}\nnew = 0\n")
    assert card("ewc", root).standing == "stale"
    path.write_text(before)
    assert card("ewc", root).standing == "shown"


def test_a_record_takes_on_the_files_that_say_what_was_measured(root: Path) -> None:
    record(root, "ewc")
    path, fisher = root / "evidence" / "records" / "ewc.json", root / "numerics" / "fisher.py"
    fisher.write_text(fisher.read_text() + "\n'a text'\n")
    assert renew(tree_at(root)) == ["ewc"]
    assert renew(tree_at(root)) == []
    assert json.loads(path.read_text())["code"]["files"] == code("ewc", tree_at(root)).files
    kept = path.read_text()
    fisher.write_text("new = 0\n")
    assert renew(tree_at(root)) == []
    assert path.read_text() == kept


def test_a_file_that_went_makes_evidence_stale(root: Path) -> None:
    record(root, "ewc")
    (root / "numerics" / "fisher.py").unlink()
    assert card("ewc", root).standing == "stale"


def test_a_finding_that_becomes_a_method_is_stale(root: Path) -> None:
    tree(root, claims__pair='"""Two at once."""\n')
    record(root, "pair")
    assert card("pair", root).standing == "shown"
    tree(root, recipes__pair='"""Two at once."""\n\ndef pair(u): ...\n')
    assert card("pair", root).standing == "stale"


def test_the_engine_and_other_machinery_make_nothing_stale(root: Path) -> None:
    before = code("ewc", tree_at(root)).hash
    claim = root / "claims" / "ewc.py"
    claim.write_text(f"{claim.read_text()}\nimport regraft.engine.fit\nimport regraft.recipes.update\n")
    tree(root, engine__fit="x = 1", recipes__update="class Update: ...", core__rows="x = 1")
    with_imports = code("ewc", tree_at(root))
    assert with_imports.hash != before
    assert not any("engine" in f or "recipes" in f for f in with_imports.files)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"standing": "proved", "code": {}}', '{"standing": "shown"}', "7"])
def test_a_damaged_record_is_named(root: Path, text: str) -> None:
    record(root, "ewc").write_text(text)
    with pytest.raises(RegraftError, match=r"ewc\.json: not a record of a claim"):
        card("ewc", root)


PLAIN = """
import os
from . import x as y
async def f(a, /, b: int = 1, *c, d=None, e, **g) -> "x":
    "docstring"
    with open(f"{a!r:>{b}}{d=}" "y" f"{d:{b}.{c}}") as h, x: ...
    return [i async for i in a if (n := i)], {**g, 1: 2}, ..., b"x", 1j, not -a[1:2, None]
class K(y, z=1):
    @property
    def p(self): pass
match f:
    case {"k": [1, *r], **s} | K(p=None) as t if 1 < 2 <= 3: del t
try: raise f from None
except* K as e: pass
lambda *, q=1: (yield)
"""


def test_the_hash_is_alike_on_every_version_of_python(tmp_path: Path) -> None:
    tree(tmp_path, claims__plain=PLAIN)
    assert code("plain", tree_at(tmp_path)).hash == "a1753850c90d98cd"


def test_the_list_starts_without_torch() -> None:
    program = """
        import sys
        from regraft.evidence import cards, claims, pages
        cards.cards(broken=print)
        claims.stale_or_unmeasured()
        print(sorted({"torch", "numpy", "scipy", "transformers"} & sys.modules.keys()))
    """
    ended = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_say_what_the_cards_say(root: Path) -> None:
    record(root, "ewc")
    made = pages.pages(root)
    assert list(made) == ["methods/index.md", "coverage.md", "taxonomy.md", "methods/ewc.md"]
    assert r"| [`ewc`](ewc.md) | Elastic weight consolidation: hold" in made["methods/index.md"]
    assert "1 methods: 1 shown." in made["methods/index.md"]
    assert (
        r"[Rethinking the \"Heatmap\" Paradigm: A \| B](https://example.org/b)".replace('\\"', '"')
        in made["coverage.md"]
    )
    assert "arXiv 1612.00796 | [`ewc`](methods/ewc.md) (shown)" in made["coverage.md"]
    page = made["methods/ewc.md"]
    assert "| `rows` | `int \\| None` | `None` |" in page
    assert "| `source` | `str` | required |" in page
    assert r"| loss \| old | ours against plain | 1 | 0.05 | 0.9 to 1.1 | shown |" in page
    assert "| plain | 2.5 (2, 2.5, 3) | 4,000 |" in page
    assert "union has its own budget: costs the sum." in page
    assert "second" not in page.replace("a second block", "")


def test_check_names_what_differs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    docs = tmp_path_factory.mktemp("docs")
    (docs / "methods").mkdir()
    (docs / "methods" / "gone.md").write_text("a method of the past")
    every = ["coverage.md", "methods/ewc.md", "methods/gone.md", "methods/index.md", "taxonomy.md"]
    assert pages.differing(docs, root) == every
    assert pages.write(docs, root) == every
    assert not (docs / "methods" / "gone.md").exists()
    assert pages.differing(docs, root) == pages.write(docs, root) == []
    (docs / "methods" / "ewc.md").write_text("by hand")
    assert pages.differing(docs, root) == ["methods/ewc.md"]


def test_the_command_exits_1_and_names_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(["--docs", str(tmp_path)]) == 0
    assert pages.main(["--docs", str(tmp_path), "--check"]) == 0
    (tmp_path / "coverage.md").write_text("")
    capsys.readouterr()
    assert pages.main(["--docs", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'coverage.md'}: differs")


# --- this house -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours() -> list[Card]:
    return cards(REPO / "src" / "regraft")


def test_our_pages_are_up_to_date() -> None:
    assert pages.differing(REPO / "docs") == [], "run: python -m regraft.evidence.pages"


@pytest.mark.skipif(not CATALOGUE.exists(), reason="the catalogue is not beside this checkout")
def test_our_titles_are_those_of_the_catalogue(ours: list[Card]) -> None:
    titles = [json.loads(line)["title"] for line in CATALOGUE.read_text(encoding="utf-8").splitlines()]
    lower = {t.casefold(): t for t in titles}
    for title in {p.title for c in ours for p in c.papers} - set(titles):
        # A paper from outside is welcome; one that is nearly in the catalogue is a slip of the pen.
        near = difflib.get_close_matches(title.casefold(), lower, n=1, cutoff=0.85)
        assert not near, f"{title!r} is {lower[near[0]]!r} in the catalogue"


def test_tags_are_of_one_vocabulary() -> None:
    unknown = {tag: card.name for card in cards() for tag in card.tags if tag not in MEANING}
    assert not unknown
    assert {tag for card in cards() for tag in card.tags} == set(MEANING), "a tag that nobody carries says nothing"

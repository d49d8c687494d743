"""Reports of lines whose versions carry made-up readings: every fact is there in each format, and nothing is markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regraft.evidence.gate import Decision, Policy
from regraft.evidence.readings import CORRECT, Reading
from regraft.report.facts import MOST_ITEMS, Report, gather
from regraft.report.markdown import markdown
from regraft.report.page import MOST_VERSIONS, page
from regraft.store import Draft, Line, TensorRef, Version

EVIL = "<script>alert('x')</script> & \"quotes\" | *bold* [link](javascript:x)"
DOCUMENTS, QUESTIONS = 60, 40


def losses(shift: float, suite: str = "prose", seed: int = 0) -> Reading:
    rng = np.random.default_rng(seed)
    values = rng.uniform(3, 5, DOCUMENTS) + shift * rng.uniform(0.9, 1.1, DOCUMENTS)
    ids = tuple(f"d{i}" for i in range(DOCUMENTS))
    texts = tuple(f"{EVIL} {i}" for i in range(DOCUMENTS))
    return Reading(suite, f"of {suite}", "nats/token", True, ids, values, np.full(DOCUMENTS, 100.0), texts=texts)


def answers(right: Sequence[int], suite: str = "quiz") -> Reading:
    values = np.zeros(QUESTIONS)
    values[list(right)] = 1
    tags = tuple(("even",) if i % 2 == 0 else ("odd", EVIL) for i in range(QUESTIONS))
    ids = tuple(f"q{i}" for i in range(QUESTIONS))
    texts = tuple(f"question {i} {EVIL}" for i in range(QUESTIONS))
    return Reading(
        suite,
        f"of {suite}",
        CORRECT,
        False,
        ids,
        values,
        np.ones(QUESTIONS),
        tags,
        continuous=values - 0.5,
        texts=texts,
    )


def curve(old: Sequence[float]) -> list[dict[str, float]]:
    return [
        {"step": float(i), "tokens": 1000.0 * i, "held/old": loss, "held/new": 6 - i / 10}
        | ({"lr": 0.003 / i, "nll": loss} if i else {})
        for i, loss in enumerate(old)
    ]


def commit(
    line: Line, before: Mapping[str, Reading], after: Mapping[str, Reading], *, message: str = EVIL, **evidence: Any
) -> Version:
    bundles: dict[str, Mapping[str, TensorRef]] = {"release": {"w": line.put_tensor(torch.randn(3))}}
    found: dict[str, Any] = dict(evidence)
    for when, side in (("before", before), ("after", after)):
        found[when] = {}
        for name, reading in side.items():
            found[when][name], arrays = reading.to_parts()
            bundles[f"evidence/{when}/{name}"] = {k: line.put_tensor(torch.from_numpy(a)) for k, a in arrays.items()}
    parents = (line.version("head").id,) if line.versions() else ()
    knobs = {"seed": 7, "lr": None, "note": EVIL}
    draft = Draft(
        parents,
        bundles,
        record={
            "recipe": "learn",
            "lr": 0.003,
            "knobs": knobs,
            "calls": [{"fit": EVIL}],
        },
        evidence=found if before or after else None,
        message=message,
    )
    return line.commit(draft, {"seconds": 10.0, "environment": {"torch": "2"}, "skipped": {"not JSON " + EVIL: 3}})


@pytest.fixture
def line(tmp_path: Path) -> Line:
    made = Line.create(tmp_path / "a & b <line>")
    commit(made, {}, {}, message="adopted")
    commit(
        made, {"prose": losses(0.5)}, {"prose": losses(0)}, message="prose", tokens=50_000, why=["replay     none: new"]
    )
    commit(
        made,
        {"prose": losses(0), "quiz": answers(range(20))},
        {"prose": losses(0.01), "quiz": answers(range(3, 30))},
        tokens=50_000,
        why=[f"replay     5%: {EVIL}"],
        curve=curve([4.0, 4.3, 4.2, 4.05]),
    )
    return made


class Page(HTMLParser):
    """Counts what a browser would see."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.named: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [tag] if tag not in self.VOID else []
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.named += (given.get("aria-labelledby") or "").split()
        self.links += [value or "" for key, value in attrs if key in ("src", "href") or key.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_says_what_happened(line: Line) -> None:
    text = page(gather(line, line.version("head")))
    seen = Page(text).text
    assert "kept prose: loss" in seen
    assert "within the 1% allowed" in seen
    assert "flips −3 +10" in seen
    assert "3 of 40 right before, wrong now" in seen
    assert f"question 0 {EVIL}" in seen
    assert "question 5 " not in seen
    assert "rose by up to +0.300, after 1,000 tokens, and did not come back" in seen
    assert "5,000" in seen  # tokens per second
    assert "seed 7" in seen
    assert "lr 0.003" in seen
    assert len(text.encode()) < 100_000


def test_the_page_stands_alone_and_is_well_formed(line: Line) -> None:
    seen = Page(page(gather(line, line.version("head"))))
    assert "script" not in seen.tags
    assert seen.links == []
    assert len(seen.ids) == len(set(seen.ids))
    assert set(seen.named) <= set(seen.ids)
    assert seen.tags.count("table") == seen.tags.count("caption")
    assert seen.tags.count("svg") == 3, "the curve, wide and narrow, and the skills"
    assert seen.tags.count("h1") == 1


def test_what_a_user_wrote_is_never_markup(line: Line) -> None:
    facts = gather(line, line.version("head"))
    assert "<script" not in page(facts)
    said, _, record = markdown(facts).partition("## Record")
    assert not re.search(r"<script|(?<!\\)\]\(|(?<!\\)\*bold", said)
    assert record.strip().startswith("```json")
    assert record.strip().endswith("```")


def test_a_fence_in_the_record_does_not_end_it(line: Line) -> None:
    facts = gather(line, line.version("head"))
    fenced = markdown(replace(facts, record={"note": "``` and ````"})).partition("## Record")[2].strip()
    assert fenced.startswith("`````json\n")
    assert fenced.endswith("\n`````")


def test_markdown_tables_are_whole(line: Line) -> None:
    rows = [row for row in markdown(gather(line, line.version("head"))).splitlines() if row.startswith("|")]
    widths = [row.replace("\\|", "").count("|") for row in rows]
    assert min(widths) >= 3
    heads = [i for i, row in enumerate(rows) if set(row) <= set("|- ")]
    assert all(widths[i - 1] == widths[i] for i in heads)


def test_json_carries_every_fact(line: Line) -> None:
    facts = json.loads(json.dumps(gather(line, line.version("head")).to_json(), allow_nan=False))
    assert facts["version"]["name"] == "v3"
    assert facts["costs"]["tokens_per_second"] == 5000
    assert facts["skipped"] == {"not JSON " + EVIL: 3}
    assert facts["matrix"]["versions"] == ["v1", "v2", "v3"]
    [quiz] = [row for row in facts["compared"]["suites"] if row["suite"] == "quiz"]
    assert quiz["flips"]["negative"] == ["q0", "q1", "q2"]
    assert len(quiz["flips"]["positive"]) == 10
    assert {row["tag"] for row in facts["compared"]["skills"]} == {"even", "odd", EVIL}


def test_the_matrix_reads_each_version_where_it_was_read(line: Line) -> None:
    matrix = gather(line, line.version("v3")).matrix
    prose, quiz = matrix.rows
    assert prose.means == pytest.approx([losses(0.5).mean, losses(0).mean, losses(0.01).mean])
    assert quiz.means == (None, 0.5, 27 / 40)


def test_what_later_versions_measured_does_not_change_an_older_report(line: Line) -> None:
    before = gather(line, line.version("v3"))
    commit(line, {"more": losses(0, "more")}, {"more": losses(1, "more")}, message="later")
    after = gather(line, line.version("v3"))
    assert after.matrix == before.matrix
    assert after.headline == before.headline


def test_an_adopted_version_has_a_report_without_numbers(line: Line) -> None:
    facts = gather(line, line.version("v1"))
    assert facts.compared is None
    assert "nothing was measured" in facts.headline[1]
    assert Page(page(facts)).tags.count("svg") == 0
    assert "nothing was measured" in markdown(facts)


def test_a_regression_is_in_the_headline(line: Line) -> None:
    commit(line, {"prose": losses(0)}, {"prose": losses(0.5)})
    facts = gather(line, line.version("head"))
    assert facts.verdict is not None
    assert facts.verdict.decision is Decision.REJECT
    assert facts.headline[0].startswith("lost some of prose")
    assert facts.headline[-1].startswith("gate: reject: prose")
    assert 'class="verdict reject"' in page(facts)


def test_a_policy_without_limits_judges_nothing(line: Line) -> None:
    policy = Policy.parse({"suites": {"*": None}})
    facts = gather(line, line.version("head"), policy)
    assert facts.verdict is not None
    assert facts.verdict.decision is Decision.CANNOT_TELL
    assert "allowed" not in " ".join(facts.headline)
    assert "no limit is set for prose, quiz" in Page(page(facts)).text
    assert "no limit is set for prose, quiz" in markdown(facts)


def test_one_item_and_no_change(line: Line) -> None:
    one = losses(0).take([0])
    commit(line, {"prose": one, "quiz": answers([1])}, {"prose": one, "quiz": answers([1])})
    facts: Report = gather(line, line.version("head"))
    assert "unknown" in Page(page(facts)).text
    assert "No item moved." in Page(page(facts)).text
    assert markdown(facts)


def test_long_lists_are_cut_and_say_so(line: Line) -> None:
    for i in range(MOST_VERSIONS):
        commit(line, {"prose": losses(i / 50)}, {"prose": losses(i / 50 + 0.02)}, message=f"update {i}")
    facts = gather(line, line.version("head"))
    [prose] = [moved for moved in facts.moved if moved.suite == "prose"]
    assert (prose.worse_count, len(prose.worse)) == (DOCUMENTS, MOST_ITEMS)
    changes = [item.after - item.before for item in prose.worse]
    assert changes == sorted(changes, reverse=True)
    seen = Page(page(facts)).text
    assert f"{DOCUMENTS} of {DOCUMENTS} whose loss rose; the {MOST_ITEMS} most changed" in seen
    assert "3 earlier versions are in the JSON" in seen


def test_the_same_line_gives_the_same_bytes(line: Line) -> None:
    assert page(gather(line, line.version("head"))) == page(gather(line, line.version("head")))

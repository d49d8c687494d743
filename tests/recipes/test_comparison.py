"""Methods compared: the same number of settings for each, tuned where nothing is judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, split_classes
from regraft.engine.training import Training
from regraft.evidence.compared import Cells, Found, Setting, optimism, read, remark
from regraft.evidence.running import Notes
from regraft.models.classifier import Classifier
from regraft.recipes import comparison
from regraft.recipes.comparison import Ground, Trial, attempt, compare, settings
from regraft.recipes.strategy import method_named
from regraft.recipes.trials import Trials
from regraft.report.methods import markdown, page, picture


def stream(seed: int) -> Scenario:
    dice = torch.Generator().manual_seed(seed)
    rows = Rows({"x": torch.randn(24, 3, generator=dice), "y": torch.arange(24) % 4})
    return split_classes(rows, rows, 2)


def network(tasks: Scenario, seed: int) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(nn.Sequential(nn.Linear(3, tasks.classes)))


def ground(**other: Any) -> Ground:
    usual: dict[str, Any] = {"judged": stream, "tuning": lambda seed: stream(seed + 50)}
    plain = {"network": network, "training": Training(steps=1, batch=4, lr=0.1, optimizer="SGD"), "epochs": 2.0}
    return Ground("small", **{**usual, **plain, "memory": 5, **other})


def running(grounds: dict[str, Ground], seen: list[Trial]) -> Any:
    def run(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Found]]:
        for trial in trials:
            seen.append(trial)
            yield trial, attempt(trial, grounds[trial.ground])

    return run


def test_every_method_tries_as_many_settings_and_is_judged_elsewhere() -> None:
    places, seen = {"a": ground()}, list[Trial]()
    found = compare(places, ["er", "online_ewc"], running(places, seen), seeds=(0, 1, 2), configurations=3)
    for name in ("naive", "er", "online_ewc"):
        tuned = [t for t in seen if t.method == name and not t.judged]
        assert {t.seed for t in tuned} == {100, 101}
        assert len({t.setting for t in tuned}) == 3
        judged = [t for t in seen if t.method == name and t.judged]
        assert [t.seed for t in judged] == [0, 1, 2]
        assert len({t.setting for t in judged}) == 1
        assert judged[0].setting in {t.setting for t in tuned}
    rows = found.rows["a"]
    assert [r.mean("average")[0] for r in rows] == sorted((r.mean("average")[0] for r in rows), reverse=True)
    assert next(r.cost for r in rows if r.method == "naive") == 1.0


def test_the_judged_stream_is_not_touched_while_tuning() -> None:
    touched: list[int] = []

    def guarded(seed: int) -> Scenario:
        touched.append(seed)
        return stream(seed)

    places, seen = {"a": ground(judged=guarded)}, list[Trial]()
    run = running(places, seen)

    def stops(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Found]]:
        if trials and not trials[0].judged:
            yield from run(trials)
            assert not touched, "the judged stream was made while settings were chosen"
        else:
            yield from run(trials)

    compare(places, ["er"], stops, seeds=(0,), configurations=2)
    assert touched


def test_in_hindsight_no_method_looks_worse() -> None:
    places, seen = {"a": ground()}, list[Trial]()
    run = running(places, seen)
    found = compare(places, ["er", "online_ewc"], run, seeds=(0, 1, 2), configurations=3, hindsight=True)
    assert all(len({t.setting for t in seen if t.judged and t.method == name}) == 3 for name in ("naive", "er"))
    rows = found.rows["a"]
    assert all(row.hindsight is not None and row.hindsight >= row.mean("average")[0] for row in rows)
    assert read(found.to_json()) == found
    apart = {row.method: 100 * ((row.hindsight or 0.0) - row.mean("average")[0]) for row in rows}
    said = optimism(rows)
    assert all(f"{name} {gap:.1f}" in said for name, gap in apart.items())
    assert "Of 3 pairs of methods" in said
    assert said in markdown(found)
    assert said in page(found)
    honest = compare(places, ["er"], run, seeds=(0, 1, 2), configurations=3)
    assert optimism(honest.rows["a"]) == ""


def test_what_cannot_act_is_said_and_comes_last() -> None:
    places = {"a": ground(tuning=None)}
    found = compare(places, ["clr"], running(places, []), seeds=(0, 1))
    assert [r.method for r in found.rows["a"]] == ["naive", "clr"]
    assert "column 'task'" in found.rows["a"][1].refused
    assert found.rows["a"][0].tuned is None


@pytest.mark.parametrize("configurations", [1, 2])
def test_a_ground_on_which_plain_training_cannot_act_is_an_error(configurations: int) -> None:
    def broken(tasks: Scenario, seed: int) -> Classifier:
        return Classifier(nn.Sequential(nn.Linear(7, tasks.classes)))

    places, seen = {"a": ground(network=broken)}, list[Trial]()
    says = "^ground 'a': plain training, which all are measured by, cannot act: RuntimeError: mat1 and mat2"
    with pytest.raises(RegraftError, match=says):
        compare(places, ["er"], running(places, seen), seeds=(0,), configurations=configurations)
    assert len(seen) == 1, "and nothing more is run"


def test_what_settings_were_chosen_on_is_named() -> None:
    places = {"a": ground(tuned_on="toys"), "b": ground(tuning=None)}
    found = compare(places, [], running(places, []), seeds=(0,), configurations=2)
    assert read(found.to_json()) == found
    assert "settings chosen among 2 of each method on other streams, toys (seeds 100, 101)" in markdown(found)
    assert "other streams, toys" in page(found)
    assert markdown(found).count("small. Judged on 1 seed; at their defaults, nothing tuned.") == 1


def test_settings_are_the_same_every_time_and_begin_with_the_defaults() -> None:
    method = method_named("der_pp")
    assert settings(method, 5) == settings(method, 5)
    assert settings(method, 5)[0] == comparison.Setting()
    assert settings(method, 3) == settings(method, 5)[:3]


def test_comparisons_that_are_none() -> None:
    places = {"a": ground()}
    with pytest.raises(RegraftError, match=r"seeds \[100\] are tuned on and judged"):
        compare(places, [], running(places, []), seeds=(100,))
    with pytest.raises(RegraftError, match="a seed to judge on"):
        compare(places, [], running(places, []), seeds=())


def test_two_methods_are_named_with_a_plus() -> None:
    both = method_named("der_pp+online_ewc")
    assert both(memory=7, der_pp__alpha=0.5, online_ewc__strength=3.0) == method_named("der_pp")(
        memory=7, alpha=0.5
    ) + method_named("online_ewc")(strength=3.0)
    assert both.tune["online_ewc__strength"] == method_named("online_ewc").tune["strength"]
    places = {"a": ground()}
    found = compare(places, ["er+online_ewc", "er+der_pp"], running(places, []), seeds=(0,), configurations=1)
    said = {row.method: row.refused for row in found.rows["a"]}
    assert said["er+online_ewc"] == ""
    assert said["er+der_pp"].startswith("both plans have a feed 'memory'")
    with pytest.raises(RegraftError, match="er is twice in er\\+er"):
        method_named("er+er")


def test_what_has_no_effect_is_said_beside_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    places = {"a": ground(tuning=None, epochs=0.3)}
    found = compare(places, ["online_ewc", "er"], running(places, []), seeds=(0, 1))
    said = {row.method: remark(row) for row in found.rows["a"]}
    assert said["online_ewc"].startswith("says: ewc has no effect on tasks that are learned in one step")
    assert said["er"] == said["naive"] == ""
    assert f"`online_ewc` {said['online_ewc']}." in markdown(found)
    assert remark(read(found.to_json()).rows["a"][1]) in said.values()
    assert capsys.readouterr().out == ""


def test_what_diverges_on_some_seeds_stays_and_comes_last() -> None:
    places = {"a": ground(tuning=None)}
    run = running(places, [])

    def breaks(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Found]]:
        for trial, found in run(trials):
            yield trial, Found(failed="exploded") if trial.method == "er" and trial.seed < 2 else found

    found = compare(places, ["er", "clr"], breaks, seeds=(0, 1, 2), configurations=1)
    assert [row.method for row in found.rows["a"]] == ["naive", "er", "clr"]
    er = found.rows["a"][1]
    assert (er.refused, er.diverged, remark(er)) == ("", 2, "diverged on 2 of 3 seeds: exploded")
    shown = Cells.of(er)
    assert (shown.average, shown.forgetting, shown.kept) == ("", "", "")
    assert er.steps == 1.0
    assert "`er` diverged on 2 of 3 seeds: exploded." in markdown(found)
    assert read(found.to_json()).to_json() == found.to_json()
    assert 'class="label"' in picture(found, "a")
    assert ">er<" not in picture(found, "a")


def test_a_training_that_diverges_has_failed_and_is_the_worst_while_tuning() -> None:
    wild = ground(training=Training(steps=1, batch=4, lr=1e39, optimizer="SGD", clip=None))
    found = attempt(Trial("a", "naive", True, 0, Setting()), wild)
    assert (found.refused, found.ended) == ("", False)
    assert "finite" in found.failed or "exploded" in found.failed
    assert "restart" not in found.failed
    places = {"a": ground()}
    run = running(places, [])

    def breaks(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Found]]:
        for trial, outcome in run(trials):
            lost = not trial.judged and trial.seed == 101 and trial.setting == Setting()
            yield trial, Found(failed="exploded") if lost else outcome

    [row] = compare(places, [], breaks, seeds=(0,), configurations=2).rows["a"]
    assert row.setting == settings(method_named("naive"), 2)[1]


def test_where_all_diverge_nothing_is_said() -> None:
    places = {"a": ground(tuning=None)}
    found = compare(places, ["er"], lambda ts: [(t, Found(failed="exploded")) for t in ts], seeds=(0, 1))
    assert [Cells.of(row)[1:-1] for row in found.rows["a"]] == [("",) * 5] * 2
    assert picture(found, "a") == ""
    assert "<svg" not in page(found)


def test_updates_are_shown_as_a_multiple_of_plain_trainings() -> None:
    places = {"a": ground(tuning=None)}
    found = compare(places, ["ibcl", "er"], running(places, []), seeds=(0, 1), configurations=1)
    rows = {row.method: row for row in found.rows["a"]}
    assert {name: row.steps for name, row in rows.items()} == {"naive": 1.0, "er": 1.0, "ibcl": 3.0}
    assert Cells.of(rows["ibcl"]).steps == "3.00×"


def test_one_task_has_no_forgetting_and_no_figure() -> None:
    def one(seed: int) -> Scenario:
        rows = stream(seed).tasks[0].train
        return split_classes(rows, rows, 1)

    places = {"a": ground(tuning=None, judged=one)}
    found = compare(places, [], running(places, []), seeds=(0, 1))
    assert Cells.of(found.rows["a"][0]).forgetting == ""
    assert Cells.of(found.rows["a"][0]).average
    assert picture(found, "a") == ""
    assert "<table>" in page(found)


def test_a_changed_file_of_a_method_is_another_trial(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("a = 1")
    trials = Trials(lambda _: ground(), Notes(tmp_path / "trials.jsonl"), "state")
    named = [Trial("a", name, True, 0, Setting()) for name in ("er", str(mine), f"er+{mine}")]
    before = [trials._key(trial) for trial in named]
    assert [trials._key(trial) for trial in named] == before
    mine.write_text("a = 2")
    assert [trials._key(trial) == key for trial, key in zip(named, before, strict=True)] == [True, False, False]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("not implemented for 'Odd'\nsecond line"), "RuntimeError: not implemented for 'Odd'"),
        (ValueError(), "ValueError"),
        (MemoryError(), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_an_error_of_python_is_the_methods_reason_but_lack_of_memory_is_not(
    error: BaseException, says: str | None
) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    def odd(tasks: Scenario, seed: int) -> Classifier:
        return Classifier(nn.Sequential(Odd(), nn.Linear(3, tasks.classes)))

    trial = Trial("a", "naive", True, 0, Setting())
    if says is None:
        with pytest.raises(type(error)):
            attempt(trial, ground(network=odd))
    else:
        assert attempt(trial, ground(network=odd)).refused == says

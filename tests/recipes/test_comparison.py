"""Methods compared: the same number of settings for each, tuned where nothing is judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, split_classes
from regraft.engine.training import Training
from regraft.evidence.compared import Found
from regraft.models.classifier import Classifier
from regraft.recipes import comparison
from regraft.recipes.comparison import Ground, Trial, attempt, compare, settings
from regraft.recipes.strategy import method_named


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


def test_what_cannot_act_is_said_and_comes_last() -> None:
    places = {"a": ground(tuning=None)}
    found = compare(places, ["clr"], running(places, []), seeds=(0, 1))
    assert [r.method for r in found.rows["a"]] == ["naive", "clr"]
    assert "column 'task'" in found.rows["a"][1].refused
    assert found.rows["a"][0].tuned is None


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

"""Laws that every part of a kind keeps. A new part is found by its place; nobody writes these per method."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regraft.parts
from regraft.core.define import Spec
from regraft.core.errors import RegraftError
from regraft.core.parts import Context, Progress
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.edits import apply
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.si import si
from regraft.parts.samplers.exemplars import exemplars
from regraft.parts.samplers.gaussians import gaussians
from regraft.parts.samplers.mir import mir
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.resolve import described, modules, part

KINDS = [p.name for p in Path(next(iter(regraft.parts.__path__))).iterdir() if p.is_dir() and p.name != "__pycache__"]
ALL = [(kind, name) for kind in sorted(KINDS) for name in modules(kind)]
STEPS = 10
TRAINING = Training(steps=STEPS, batch=6, lr=0.05, log_every=2)
MEMORY = {
    "gradient_norms": {"norm": "l1", "values": torch.linspace(2.0, 1.0, STEPS)},
    "classes": torch.tensor([0, 1]),
    "reprogram": {"tasks": {"1": {"5.weight": torch.ones(3, 7).double()}}, "anchor": 1},
    "convolve": {
        "tasks": {"1": {"5.weight": torch.ones(3, 7).double(), "5.bias": torch.ones(3).double()}},
        "anchor": 1,
        "parents": {},
        "classes": {},
    },
    "jare": {
        "5.jare.keys": torch.eye(2, 7).double().view(2, 1, 7),
        "0.jare.A": torch.ones(2, 2, 5).double(),
        "0.jare.B": torch.zeros(2, 7, 2).double(),
    },
    "ewc": {"F": {"0.weight": torch.ones(7, 5).double()}, "w": {"0.weight": torch.zeros(7, 5).double()}},
    "cuber": {
        "tasks": {
            "0": {
                "basis": {"0.weight": torch.eye(5, 2).double(), "5.weight": torch.eye(7, 2).double()},
                "gradient": {"0.weight": torch.ones(7, 5).double(), "5.weight": torch.ones(3, 7).double()},
            }
        },
        "regimes": {"0": {}},
    },
    "gpm": {"0.weight": torch.eye(5, 2).double()},
    "reg_lora": {"0.weight": torch.arange(35).view(7, 5) % 3 == 0},
    "mean_field": {"0": {"mu": torch.zeros(24).double(), "sigma": torch.ones(24).double()}},
    "credal_set": {"mu": torch.eye(2, 24).double(), "sigma": torch.ones(2, 24).double(), "tasks": [[0], [1]]},
    **{p: {"1": {"x": torch.ones(2, 5).double(), "y": torch.tensor([0, 1])}} for p in ("agem", "gem")},
    "refresh": {"0.weight": torch.ones(7, 5).double()},
    "ticket": {"0.weight": torch.arange(35).view(7, 5) % 3 == 0, "5.bias": torch.ones(3, dtype=torch.bool)},
    "sparse_vectors": {"0": {"0.weight": {"at": torch.tensor([0, 4]), "by": torch.tensor([1.0, -1.0]).double()}}},
    "gaussians": {
        "classes": torch.arange(3),
        "counts": torch.tensor([9.0, 4.0, 1.0]).double(),
        "means": torch.linspace(-1, 1, 21).double().view(3, 7),
        "covariances": torch.eye(7).expand(3, 7, 7),
    },
    **{
        p: {"Omega": {"0.weight": torch.ones(7, 5).double()}, "w": {"0.weight": torch.zeros(7, 5).double()}}
        for p in ("mas", "si")
    },
}
ELSEWHERE = {"field_kl", "judgement", "prompt_pool", "pseudo_classes", "unsolved", "value"}
"""Parts that need another network, or other feeds: tested in `tests/strategies`, and by themselves."""


def of(kind: str) -> list[Any]:
    """The parts of a kind, with knobs that make them act in a short run; without those that need other knobs."""
    short: dict[str, dict[str, Any]] = {
        "reptile": {"k": 3},
        "reservoir": {"size": 7},
        "exemplars": {"size": 7},
        "all_but": {"held": {"exemplars": {"size": 5, "choose": "random", "adds": "before"}}},
        "convolve": {"kernel": 3, "heads": 7, "roles": ("0",)},
        "jare": {"slots": 1, "groups": 1, "r": 2, "pulled": 1, "roles": ("0",)},
        "modulation_pool": {"size": 4, "r": 2, "roles": ("0",)},
        "agem": {"loss": "nll", "size": 7},
        "refresh": {"delta": 0.01},
        "cuber": {"loss": "nll", "hold": 0.1},
        "gem": {"loss": "nll", "size": 7},
        "reg_lora": {"M": 0.3},
        "mir": {"memory": {"reservoir": {"size": 7}}, "loss": "nll"},
        "view_batch": {"sampler": "shuffled", "V": 4, "weak": {"augment": {"shift": 0.0, "noise": 0.1}}},
    }
    made = [
        part(kind, {name: short.get(name, {})}, where="law")
        for k, name in ALL
        if k == kind and name not in ELSEWHERE and set(required(k, name)) <= short.get(name, {}).keys()
    ]
    return [pytest.param(p, id=getattr(p, "name", type(p).__name__)) for p in made]


def make(kind: str, name: str) -> Any:
    return getattr(importlib.import_module(f"regraft.parts.{kind}.{name}"), name)


def required(kind: str, name: str) -> list[str]:
    parameters = inspect.signature(make(kind, name)).parameters.values()
    return [p.name for p in parameters if p.default is inspect.Parameter.empty]


def table(count: int = 40, seed: int = 0) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=dice, dtype=torch.float64)
    y = torch.randint(0, 3, (count,), generator=dice)
    number = torch.arange(count)
    columns = {"source": number % 3, "row": number, "task": number * 0, "quarter": number % 4}
    columns |= {"view": number % 2, "group": number // 2, "reward": (number % 2).double()}
    columns |= {"advantage": x[:, 0], "side": 2.0 * (number % 2) - 1, "mismatched": number % 2, "member": number * 0}
    return Rows({"x": x, "y": y, **columns})


def model() -> Classifier:
    torch.manual_seed(1)
    body = [nn.Linear(5, 7), nn.Tanh(), nn.Unflatten(1, (1, 7)), nn.Conv1d(1, 1, 3, padding=1), nn.Flatten()]
    return Classifier(nn.Sequential(*body, nn.Linear(7, 3)).double())


def run(plan: Plan, data: dict[str, Rows] | None = None, **kw: Any) -> dict[str, Tensor]:
    student = model()
    fit(student, plan, data or {"new": table(), "past": table(20, 5)}, TRAINING, memory=MEMORY, **kw)
    return {n: t.clone() for n, t in student.state().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)


def plan_with(kind: str, a_part: Any) -> Plan:
    if kind == "samplers" and isinstance(a_part, mir):
        return plan_with("losses", nll()) + Plan(feeds=(Feed("memory", a_part, beside=0.5),))
    if kind == "samplers" and isinstance(a_part, reservoir | exemplars | gaussians):
        return plan_with("losses", nll()) + Plan(feeds=(Feed("memory", a_part, 0.5),))
    feed = Feed("new", a_part if kind == "samplers" else shuffled())
    base = Plan(feeds=(feed,), losses=(Weighted(a_part if kind == "losses" else nll()),))
    if kind == "penalties":
        both = (a_part,) if isinstance(a_part, si) else ()
        return base + Plan(penalties=(Weighted(a_part),), gradients=both)
    if kind in ("gradients", "trainables"):
        return base + Plan(**{kind: (a_part,)})
    return base + Plan(lr=a_part) if kind == "schedules" else base


IN_A_PLAN = [
    pytest.param(kind, p.values[0], id=f"{kind}-{p.id}")
    for kind in ("samplers", "losses", "penalties", "trainables", "gradients", "schedules")
    for p in of(kind)
]


@pytest.mark.parametrize(("kind", "name"), ALL, ids=lambda v: v)
def test_a_part_is_named_like_its_file_and_its_knobs_are_named(kind: str, name: str) -> None:
    with pytest.raises((RegraftError, TypeError), match="no_such_knob"):
        make(kind, name)(no_such_knob=1)
    with pytest.raises(RegraftError, match="no_such_knob"):
        part(kind, {name: {"no_such_knob": 1}}, where="law")


@pytest.mark.parametrize(("kind", "a_part"), IN_A_PLAN)
def test_knobs_are_immutable_and_round_trip(kind: str, a_part: Any) -> None:
    if dataclasses.is_dataclass(a_part):
        with pytest.raises(dataclasses.FrozenInstanceError):
            a_part.anything = 1  # type: ignore[attr-defined]
    again = part(kind, described(a_part), where="law")
    assert again == a_part
    assert hash(again) == hash(a_part)
    assert isinstance(a_part, Spec) or dataclasses.is_dataclass(a_part)


@pytest.mark.parametrize(("kind", "a_part"), IN_A_PLAN)
def test_the_same_seed_gives_the_same_bits(kind: str, a_part: Any) -> None:
    assert same(run(plan_with(kind, a_part)), run(plan_with(kind, a_part)))


class _Cut(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class cut:
    """Raises at a step: the run is killed there."""

    at: int

    def begin(self, ctx: Context) -> Any:
        at, progress = self.at, ctx.progress

        class Run:
            def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
                if progress().step == at:
                    raise _Cut
                return grads

        return Run()


@pytest.mark.parametrize("at", [1, 6, 9])
@pytest.mark.parametrize(("kind", "a_part"), IN_A_PLAN)
def test_resumed_equals_uninterrupted(kind: str, a_part: Any, at: int, tmp_path: Path) -> None:
    plan = plan_with(kind, a_part)
    with pytest.raises(_Cut):
        run(plan + Plan(gradients=(cut(at),)), folder=tmp_path, checkpoint_seconds=0.0)
    resumed = run(plan + Plan(gradients=(cut(-1),)), folder=tmp_path)
    assert same(run(plan), resumed)


@pytest.mark.parametrize("sampler", of("samplers"))
def test_dice_are_ones_own(sampler: Any) -> None:
    def drawn(plan: Plan) -> list[list[int]]:
        seen: list[list[int]] = []

        @dataclasses.dataclass(frozen=True)
        class spy:
            def begin(self, ctx: Context) -> Any:
                class Run:
                    def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
                        return grads

                    def observe(self, outcome: Any) -> None:
                        if outcome.feed == "new":
                            seen.append(outcome.rows["row"].tolist())

                return Run()

        run(plan + Plan(gradients=(spy(),)))
        return seen

    alone = plan_with("samplers", sampler)
    first = drawn(alone)
    others = Plan(gradients=tuple(p.values[0] for p in of("gradients")), lr=of("schedules")[0].values[0])
    assert first == drawn(alone + others)
    assert all(first)


@pytest.mark.parametrize("count", [1, 2, 5, 7])
@pytest.mark.parametrize("sampler", of("samplers"))
def test_samplers_give_what_is_asked_at_odd_sizes(sampler: Any, count: int) -> None:
    data = {"new": table(count), "past": table(count)}
    fitted = fit(model(), plan_with("samplers", sampler), data, TRAINING)
    beside = fitted.tokens - STEPS * TRAINING.batch
    assert beside >= 0 if isinstance(sampler, mir) else beside == 0


@pytest.mark.parametrize("schedule", of("schedules"))
@pytest.mark.parametrize("total", [1, 2, 3, 100])
def test_schedules_are_finite_and_never_negative(schedule: Any, total: int) -> None:
    norms = {"norm": "l1", "values": torch.linspace(2.0, 1.0, total)}
    memory = {"gradient_norms": norms, "exemplars": {"columns": {"y": torch.arange(6)}}}
    nothing: Any = None
    progress = Progress(0, total)
    ctx = Context(
        {},
        {"new": Rows({"y": torch.arange(4)})},
        memory,
        torch.Generator(),
        lambda: progress,
        nothing,
        nothing,
        nothing,
    )
    running = schedule.begin(ctx)
    values = [running(Progress(step, total)) for step in range(total)]
    assert all(0 <= v < float("inf") for v in values), values


@pytest.mark.parametrize("gradient", of("gradients"))
def test_a_zero_gradient_stays_finite(gradient: Any) -> None:
    still = {"new": table().having(scale=torch.zeros(40, dtype=torch.float64))}
    after = run(plan_with("gradients", gradient), data=still)
    assert all(torch.isfinite(t).all() for t in after.values())


@pytest.mark.parametrize("trainable", of("trainables"))
def test_a_trainable_leaves_a_plain_network(trainable: Any) -> None:
    student, plain = model(), model()
    fit(student, plan_with("trainables", trainable), {"new": table()}, TRAINING, memory=MEMORY)
    assert [name for name, _ in student.module.named_modules()] == [name for name, _ in plain.module.named_modules()]
    assert student.state().keys() == plain.state().keys()
    assert all(slot.tensor.requires_grad and slot.kind == "base" for slot in student.slots())


@pytest.mark.parametrize("edit", of("edits"))
def test_an_edit_has_dice_of_its_own_and_names_tensors_that_are_there(edit: Any) -> None:
    rows = {"new": table()}
    first, second = model(), model()
    for student in (first, second):
        apply(edit, student, rows, MEMORY, seed=3)
    assert same(dict(first.state()), dict(second.state()))
    assert first.state().keys() == model().state().keys()

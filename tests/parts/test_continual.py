"""Continual learning: memories, remembered answers, held weights, projected steps; each against its formula."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import Clash, RegraftError
from regraft.core.parts import Outcome, Progress, View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import blurred, domains, few_shot, recurring, split_classes
from regraft.engine.edits import still
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics import fisher
from regraft.parts.gradients.agem import agem
from regraft.parts.gradients.refresh import refresh
from regraft.parts.losses.asymmetric import asymmetric
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.penalties.ewc import ewc
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.grounds import read_bench
from regraft.recipes.strategy import Strategy, live, method_named

CLASSES, WIDTH = 6, 5


def table(count: int, seed: int = 0, classes: int = CLASSES) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    x = torch.randn(count, WIDTH, generator=dice, dtype=torch.float64)
    return Rows({"x": x, "y": torch.arange(count) % classes, "row": torch.arange(count)})


def network(*, conv: bool = False, inplace: bool = False) -> Classifier:
    torch.manual_seed(1)
    bend = nn.ReLU(inplace=True) if inplace else nn.Tanh()
    layers: list[nn.Module] = [nn.Linear(WIDTH, 8), bend, nn.Linear(8, CLASSES)]
    if conv:
        layers = [nn.Unflatten(1, (1, WIDTH)), nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, CLASSES)]
    return Classifier(nn.Sequential(*layers).double())


def gradients(plan: Plan, rows: Rows, memory: dict[str, Any] | None = None) -> dict[str, Tensor]:
    """The gradient of one whole step of a plan, by SGD at rate 1."""
    model = network()
    before = {n: t.clone() for n, t in model.state().items()}
    training = Training(steps=1, batch=rows.count, lr=1.0, optimizer="SGD", clip=None, explode=1e9)
    fit(model, plan, {"new": rows}, training, memory=memory or {})
    return {n: before[n] - t for n, t in model.state().items()}


def textbook(loss: Any) -> dict[str, Tensor]:
    model = network()
    parameters = dict(model.module.named_parameters())
    found = torch.autograd.grad(loss(model.module, parameters), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.allclose(a[n], b[n], atol=1e-10) for n in b)


# --- one objective: four methods as settings of it --------------------------------------------------------------------


@pytest.fixture
def remembered() -> dict[str, Any]:
    old = table(9, 3)
    z = torch.randn(9, CLASSES, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return {"reservoir": {"columns": {"x": old["x"], "y": old["y"], "logits": z}, "seen": 50}}


TRAINED = Training(steps=1, batch=4, lr=0.1)
MEMORY = Plan(feeds=(Feed("new", shuffled()), Feed("memory", reservoir(9, keep=("logits",)), 0.5)))


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (0.7, 0.0), (0.7, 0.4)], ids=["ER", "DER", "DER++"])
def test_replay_methods_have_the_textbook_gradient(remembered: dict[str, Any], alpha: float, beta: float) -> None:
    new, old = table(18), remembered["reservoir"]["columns"]
    losses = (
        Weighted(nll(), 1.0, ("new",)),
        Weighted(nll(), beta, ("memory",)),
        Weighted(distil(of="logits", by="mse"), alpha, ("memory",)),
    )
    found = gradients(MEMORY + Plan(losses=losses), new, remembered)

    def loss(net: nn.Module, _: Any) -> Tensor:
        h = net(old["x"])
        labels = beta * F.cross_entropy(h, old["y"])
        return F.cross_entropy(net(first["x"]), first["y"]) + labels + alpha * F.mse_loss(h, old["logits"])

    first = first_batch(MEMORY + Plan(losses=losses), new, remembered)  # 9 new rows, beside all 9 of memory
    assert close(found, textbook(loss))


def first_batch(plan: Plan, rows: Rows, memory: dict[str, Any], feed: str = "new") -> Rows:
    seen: list[Rows] = []

    @dataclasses.dataclass(frozen=True)
    class spy:
        def begin(self, ctx: Any) -> Any:
            class Run:
                def update(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
                    return grads

                def observe(self, outcome: Any) -> None:
                    if outcome.feed == feed:
                        seen.append(outcome.rows)

            return Run()

    gradients(plan + Plan(gradients=(spy(),)), rows, memory)
    return seen[0]


def test_lwf_has_the_textbook_gradient() -> None:
    rows, known, T = table(12), torch.tensor([0, 1, 3]), 2.0
    teacher = network().module

    def loss(net: nn.Module, _: Any) -> Tensor:
        h, z = net(rows["x"])[:, known], teacher(rows["x"])[:, known].detach() + 0
        kept = T * T * F.kl_div((h / T).log_softmax(-1), (z / T).softmax(-1), reduction="batchmean")
        return F.cross_entropy(net(rows["x"]), rows["y"]) + 0.8 * kept

    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()), Weighted(distil(classes="known"), 0.8)))
    assert close(gradients(plan, rows, {"classes": known}), textbook(loss))
    alone = Plan((Feed("new", shuffled()),), (Weighted(nll()),))
    assert all(
        torch.equal(a, b) for a, b in zip(gradients(plan, rows).values(), gradients(alone, rows).values(), strict=True)
    )


def test_ewc_has_the_textbook_gradient() -> None:
    rows = table(12)
    dice = torch.Generator().manual_seed(2)
    state = network().state()
    importance = {n: torch.rand(t.shape, generator=dice, dtype=t.dtype) for n, t in state.items()}
    anchor = {n: torch.randn(t.shape, generator=dice, dtype=t.dtype) for n, t in state.items()}

    def loss(net: nn.Module, w: dict[str, Tensor]) -> Tensor:
        held = sum((importance[n] * (t - anchor[n]).square()).sum() for n, t in w.items())
        return F.cross_entropy(net(rows["x"]), rows["y"]) + 3.0 * held / 2

    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), penalties=(Weighted(ewc(), 3.0),))
    assert close(gradients(plan, rows, {"ewc": {"F": importance, "w": anchor}}), textbook(loss))


# --- the Fisher information ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("conv", "inplace"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("count", [1, 7])
def test_the_fisher_is_of_every_row_by_itself(
    conv: bool, inplace: bool, count: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = network(conv=conv, inplace=inplace), table(count)
    classes = torch.arange(CLASSES).expand(count, -1)
    if told:
        model.task_classes = torch.arange(CLASSES) // 3 == torch.arange(2)[:, None]
        rows, classes = rows.having(task=rows["y"] // 3), (rows["y"] // 3 * 3)[:, None] + torch.arange(3)
    expected = {n: torch.zeros_like(t) for n, t in model.state().items()}
    for row, its in zip(rows.chunks(1), classes, strict=True):
        loss = F.cross_entropy(model.module(row["x"])[:, its], (its == row["y"]).nonzero()[0])
        for (n, _), g in zip(
            model.module.named_parameters(), torch.autograd.grad(loss, list(model.module.parameters())), strict=True
        ):
            expected[n] += g.square() / count
    slots = {slot.name: slot.tensor for slot in model.slots()}
    by_layers = fisher._by_layers(model, rows, slots, lambda view: view.nll, torch.square)
    assert (by_layers is None) == conv
    assert close(fisher.diagonal_fisher(model, rows), expected)
    monkeypatch.setattr(fisher, "_by_layers", lambda *_: None)
    assert close(fisher.diagonal_fisher(model, rows), expected)
    monkeypatch.setattr(fisher, "CHUNK_NUMBERS", 1)
    assert close(fisher.diagonal_fisher(model, rows), expected)
    model.vmaps = False
    assert close(fisher.diagonal_fisher(model, rows), expected)


def test_the_fisher_of_a_language_model() -> None:
    from regraft.worlds import llama

    model = llama.llama(llama.bpe(["one two three"], 280), width=8, depth=1, heads=2, context=8)
    ids = torch.arange(24).remainder(9).view(3, 8)
    positions, counts = torch.arange(8).repeat(3, 1), torch.ones(3, 8)
    rows = Rows({"input_ids": ids, "positions": positions, "targets": ids.roll(-1, 1), "counts": counts})
    found = fisher.diagonal_fisher(model, rows)
    assert set(found) == {slot.name for slot in model.slots()}
    assert all(torch.isfinite(t).all() and (t >= 0).all() for t in found.values())
    with pytest.raises(RegraftError, match="of no rows"):
        fisher.diagonal_fisher(model, rows.take([]))


# --- the memory ------------------------------------------------------------------------------------------------------


def remember(size: int, count: int, batch: int, *, epochs: int = 1, seed: int = 0, **knobs: Any) -> dict[str, Any]:
    plan = Plan((Feed("new", shuffled()), Feed("memory", reservoir(size, **knobs), 0.5)), (Weighted(nll()),))
    training = Training(steps=epochs * max(1, count // batch), batch=2 * batch, lr=0.01, optimizer="SGD", seed=seed)
    return fit(network(), plan, {"new": table(count)}, training).memory["reservoir"]


@pytest.mark.parametrize(("size", "count", "batch"), [(1, 1, 1), (3, 2, 5), (7, 40, 6), (50, 40, 8), (5, 3, 1)])
def test_a_memory_holds_different_rows_up_to_its_size(size: int, count: int, batch: int) -> None:
    left = remember(size, count, batch, epochs=3, keep=("logits",))
    x = left["columns"]["x"]
    assert len(x) == len(x.unique(dim=0)) <= min(size, count)
    assert len(x) == min(size, count) or left["seen"] < count
    assert left["columns"]["logits"].shape == (len(x), CLASSES)
    known = table(count)
    places = (x[:, None] == known["x"]).all(-1).int().argmax(1)
    assert torch.equal(known["y"][places], left["columns"]["y"])


def test_every_row_is_kept_with_the_same_chance() -> None:
    kept = torch.zeros(30)
    for seed in range(300):
        x = remember(6, 30, 3, seed=seed)["columns"]["x"]
        kept[(x[:, None] == table(30)["x"]).all(-1).int().argmax(1)] += 1
    # 300 draws at 6/30: a row is kept 60 times, give or take 6.9
    assert (kept - 60).abs().max() < 4 * 6.9


def test_passes_over_a_task_bias_its_share_of_the_memory_to_nobody() -> None:
    shares, size, passes = torch.zeros(3), 40, 5
    for seed in range(40):
        memory: dict[str, Any] = {}
        for task in range(3):
            run = reservoir(size).begin(still({}, {}, memory, name="reservoir", seed=10 * seed + task))
            dice = torch.Generator().manual_seed(10 * seed + task)
            for row in torch.cat([torch.randperm(size, generator=dice) for _ in range(passes)]).split(8):
                rows = Rows({"of": torch.full((len(row),), task), "row": row})
                run.observe(Outcome("new", rows, {}, Progress(0, 1), {}))
            memory = run.leave()
        shares += memory["reservoir"]["columns"]["of"].bincount(minlength=3) / size / 40
    assert (shares - 1 / 3).abs().max() < 0.04


def test_what_cannot_be_remembered() -> None:
    with pytest.raises(RegraftError, match="the size is 0"):
        reservoir(0)
    plan = Plan((Feed("new", shuffled()), Feed("memory", reservoir(3), 0.5)), (Weighted(nll()),))
    left = {"reservoir": {"columns": {"x": table(3)["x"], "y": table(3)["y"]}, "seen": 3}}
    with pytest.raises(RegraftError, match="the memory that earlier updates left keeps no logits"):
        fit(network(), MEMORY + Plan(losses=(Weighted(nll()),)), {"new": table(9)}, TRAINED, memory=left)
    with pytest.raises(RegraftError, match="column 'name' is not a tensor"):
        fit(network(), plan, {"new": table(4).having(name=list("abcd"))}, Training(steps=1, batch=4, lr=0.1))


def test_where_the_task_is_known_every_part_learns_among_its_classes() -> None:
    rows, old = (
        table(6, seed).having(y=torch.arange(6) % 3 + first, task=torch.full((6,), task))
        for seed, first, task in ((0, 3, 1), (2, 0, 0))
    )

    def among(rows: Rows) -> dict[str, Tensor]:
        first = int(rows["task"][0]) * 3
        return textbook(lambda net, _: F.cross_entropy(net(rows["x"])[:, first : first + 3], rows["y"] - first))

    g, r = among(rows), among(old)
    dot, size = (sum(float((a[n] * r[n]).sum()) for n in r) for a in (g, r))
    model, plan = network(), Plan((Feed("new", shuffled()),), (Weighted(nll()),), gradients=(agem(nll(), 6),))
    model.task_classes = torch.arange(CLASSES) // 3 == torch.arange(2)[:, None]
    before = {n: t.clone() for n, t in model.state().items()}
    memory = {"agem": {"0": {n: old[n] for n in ("x", "y", "task")}}}
    fit(model, plan, {"new": rows}, Training(1, 6, 1.0, optimizer="SGD", clip=None, explode=1e9), memory=memory)
    assert dot < 0
    assert close({n: before[n] - t for n, t in model.state().items()}, {n: g[n] - dot / size * r[n] for n in g})


def test_lwf_compares_the_classes_of_each_known_task_by_themselves() -> None:
    rows, lwf = table(6), distil(classes="known")
    model, old = network(), network().module
    model.task_classes = torch.arange(CLASSES) // 2 == torch.arange(3)[:, None]
    torch.nn.init.normal_(model.module[0].weight)
    ctx = still({"student": model}, {}, {"classes": torch.tensor([0, 1, 2, 3])}, name="lwf", seed=0)
    found = lwf.begin(ctx).loss(View(model, rows, {"before": network()}))
    h, z = (net(rows["x"])[:, :4].view(6, 2, 2) / 2 for net in (model.module, old))
    expected = 4 * F.kl_div(h.log_softmax(-1), z.softmax(-1), reduction="none").sum((1, 2))
    assert torch.allclose(found, expected, atol=1e-10)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_agem_projects_onto_the_memory(remembered: dict[str, Any]) -> None:
    rows = table(12)
    wrong = {"x": rows["x"][:9], "y": CLASSES - 1 - rows["y"][:9]}
    plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),))
    projected = plan + Plan(gradients=(agem(nll(), 9),))
    for columns in ({n: remembered["reservoir"]["columns"][n] for n in "xy"}, wrong):
        memory = {"agem": {"0": columns}}
        g = textbook(lambda net, _: F.cross_entropy(net(rows["x"]), rows["y"]))
        r = textbook(lambda net, _, c=columns: F.cross_entropy(net(c["x"]), c["y"]))
        dot, size = (sum(float((a[n] * r[n]).sum()) for n in r) for a in (g, r))
        expected = {n: g[n] - min(dot, 0.0) / size * r[n] for n in g}
        assert close(gradients(projected, rows, memory), expected)
    assert sum(float((g[n] * r[n]).sum()) for n in r) < 0, "the second memory is in conflict"
    assert close(gradients(projected, rows), gradients(plan, rows))


def test_new_rows_leave_absent_classes_alone() -> None:
    rows = table(12, classes=2)
    known = torch.tensor([1, 4])  # 1 comes again, 4 does not

    def loss(net: nn.Module, _: Any) -> Tensor:
        return F.cross_entropy(net(rows["x"]).index_fill(1, torch.tensor([4]), -torch.inf), rows["y"])

    plan = Plan((Feed("new", shuffled()),), (Weighted(asymmetric()),))
    found = gradients(plan, rows, {"classes": known})
    assert close(found, textbook(loss))
    assert not found["2.weight"][4].any()
    plain = Plan((Feed("new", shuffled()),), (Weighted(nll()),))
    assert close(gradients(plan, rows), gradients(plain, rows))


def test_refresh_at_zero_is_absent_and_never_a_wrong_knob() -> None:
    plan, rows = Plan((Feed("new", shuffled()),), (Weighted(nll()),)), table(12)
    still = gradients(plan + Plan(gradients=(refresh(delta=0.0),)), rows)
    assert all(torch.equal(still[n], g) for n, g in gradients(plan, rows).items())
    assert not close(gradients(plan + Plan(gradients=(refresh(delta=0.1),)), rows), gradients(plan, rows))
    with pytest.raises(RegraftError, match="delta is -1"):
        refresh(delta=-1.0)


# --- streams ---------------------------------------------------------------------------------------------------------


def test_scenarios_are_data() -> None:
    train, test = table(60), table(24, 1)
    whole = split_classes(train, test, 3)
    assert [t.classes.tolist() for t in whole.tasks] == [[0, 1], [2, 3], [4, 5]]
    assert whole.classes == CLASSES
    assert [t.asked for t in whole.tasks] == [None] * 3
    told = split_classes(train, test, [[5, 0], [1]], told=True)
    assert [task.name for task in split_classes(train, test, 3, labels="abcdef").tasks] == ["a+b", "c+d", "e+f"]
    assert [t.name for t in told.tasks] == ["0+5", "1"]
    assert told.tasks[0].asked is not None
    shuffled_classes = split_classes(train, test, 3, order=1)
    assert sorted(c for t in shuffled_classes.tasks for c in t.classes.tolist()) == list(range(CLASSES))
    mixed = blurred(whole, 0.3, seed=2)
    assert sum(t.train.count for t in mixed.tasks) == 60
    assert any(len(t.classes) > 2 for t in mixed.tasks)
    assert [t.train.count for t in blurred(whole, 0.0).tasks] == [20, 20, 20]
    again = recurring(whole, 2)
    assert [t.train.count for t in again.tasks] == [10] * 6
    few = few_shot(whole, 2)
    assert [t.train.count for t in few.tasks] == [20, 4, 4]
    changed = domains(train, test, [lambda x: x, lambda x: -x])
    assert torch.equal(changed.tasks[1].train["x"], -train["x"])
    assert all(t.train["row"].tolist() == list(range(t.train.count)) for t in (*mixed.tasks, *few.tasks))


def test_scenarios_that_cannot_be() -> None:
    train, test = table(60), table(24, 1)
    with pytest.raises(RegraftError, match="6 classes cannot be dealt out to 4 tasks evenly"):
        split_classes(train, test, 4)
    with pytest.raises(RegraftError, match="class 1 is in two tasks"):
        split_classes(train, test, [[0, 1], [1]])
    with pytest.raises(RegraftError, match="class 0 has no row to learn"):
        split_classes(train.where(train["y"] > 0), test, [[0], [1]])
    with pytest.raises(RegraftError, match="class f has no row to learn"):
        split_classes(train.where(train["y"] < 5), test, [[0], [5]], labels="abcdef")
    with pytest.raises(RegraftError, match="class 9 has no row to learn"):
        split_classes(train, test, [[0], [9]])
    with pytest.raises(RegraftError, match="the share is 1"):
        blurred(split_classes(train, test, 3), 1.0)


def test_a_strategy_lives_through_a_stream() -> None:
    scenario = split_classes(table(60), table(24, 1), 3)
    training = Training(steps=1, batch=4, lr=0.05, optimizer="SGD", clip=None)
    memory = Strategy(Plan(feeds=(Feed("memory", reservoir(10), beside=1.0),)))
    held = Strategy(Plan(penalties=(Weighted(ewc(), 1.0),)))
    lived = live(network(), scenario, memory + held, training, epochs=2)
    assert lived.scores.shape == (4, 3)
    assert {"average", "forgetting"} <= lived.measures().keys()
    assert lived.memory["reservoir"]["seen"] == 120
    assert lived.memory["classes"].tolist() == [0, 1, 2, 3, 4, 5]
    again = live(network(), scenario, memory + held, training, epochs=2)
    assert (again.scores == lived.scores).all()
    by_labels = Strategy(labels=(Weighted(asymmetric(), 1.0, ("new",)),))
    with pytest.raises(Clash, match="both strategies say how labels are learned"):
        by_labels + Strategy(labels=(Weighted(nll(), 0.5),))
    with pytest.raises(Clash, match="both plans have a feed 'memory'"):
        memory + memory


def test_the_examples_in_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "continual.md").read_text(encoding="utf-8")
    code, own = (block.split("```")[0] for block in page.split("```python\n")[1:])
    code = code.replace("epochs=20", "epochs=1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(own)
    assert method_named(str(tmp_path / "mine.py"))(memory=3).labels
    recipe = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "shop.yaml").write_text(recipe)
    assert read_bench(tmp_path / "shop.yaml").grounds["products"].memory == 200
    torch.manual_seed(0)
    shelf: dict[str, Any] = {
        "x": torch.randn(80, WIDTH),
        "y": torch.arange(80) % 10,
        "x_test": torch.randn(20, WIDTH),
        "y_test": torch.arange(20) % 10,
        "network": nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 10)),
    }
    exec(code, shelf)
    assert shelf["lived"].scores.shape == (6, 5)


def test_losses_look_for_their_feeds_when_the_plan_is_whole() -> None:
    kept = Plan(feeds=(Feed("memory", reservoir(3), beside=1.0),))
    assert (kept + Plan(losses=(Weighted(nll(), 1.0, on=("new",)),))).losses
    lost = Plan((Feed("new", shuffled()),), (Weighted(nll(), 1.0, on=("old",)),))
    with pytest.raises(RegraftError, match=r"reads feeds \['old'\]; the plan has \['new'\]"):
        fit(network(), lost, {"new": table(4)}, TRAINED)


def test_two_parts_do_not_leave_one_name() -> None:
    both = tuple(Feed(f"memory {size}", reservoir(size), beside=1.0) for size in (3, 4))
    plan = Plan((Feed("new", shuffled()), *both), (Weighted(nll()),))
    with pytest.raises(Clash, match="both leave 'reservoir' in memory"):
        fit(network(), plan, {"new": table(8)}, TRAINED)

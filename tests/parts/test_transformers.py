"""Methods on transformers: attention that tasks filter anew, pools in which each input finds what modulates it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.parts import View
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.edits import still
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.parts.losses.new_classes import new_classes
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.convolve import convolve
from regraft.parts.trainables.jare import jare
from regraft.parts.trainables.modulation_pool import modulation_pool
from regraft.parts.trainables.prompt_pool import prompt_pool
from regraft.parts.transforms.augment import augment
from regraft.worlds import transformers

SIDE, CLASSES = 4, 6
NEW = Feed("new", shuffled())


def network() -> Classifier:
    model = transformers.vision(CLASSES, seed=1, side=SIDE, width=8, depth=2, heads=2)
    model.module.double()
    return model


def table(*classes: int, count: int = 12, seed: int = 0) -> Rows:
    dice = torch.Generator().manual_seed(seed)
    y = torch.tensor(classes).repeat(count)[:count]
    x = torch.randn(CLASSES, SIDE * SIDE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)[y]
    return Rows({"x": x + 0.3 * torch.randn(x.shape, generator=dice, dtype=torch.float64), "y": y})


def learned(model: Any, plan: Plan, rows: Rows, memory: Any, *, lr: float = 0.1, steps: int = 3) -> Any:
    training = Training(steps=steps, batch=rows.count, lr=lr, optimizer="SGD", clip=None, explode=1e9)
    return fit(model, plan, {"new": rows}, training, memory=memory).memory


def answering(part: Any, model: Any, memory: Any) -> Any:
    return part.begin(still({"student": model}, {}, memory, name="answer", seed=0))


# --- the cross-entropy among new classes


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_new_classes_have_the_textbook_gradient(smoothing: float) -> None:
    rows, model = table(1, 4), network()
    before = {n: t.clone() for n, t in model.state().items()}
    learned(model, Plan((NEW,), (Weighted(new_classes(smoothing)),)), rows, {}, lr=1.0, steps=1)
    own = network()
    h = own.module(rows["x"])[:, [1, 4]]
    F.cross_entropy(h, (rows["y"] == 4).long(), label_smoothing=smoothing).backward()
    for name, p in own.module.named_parameters():
        assert torch.allclose(before[name] - model.state()[name], p.grad, atol=1e-10)
    with pytest.raises(RegraftError, match="smoothing is 1"):
        new_classes(1.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_rows_of_other_classes_count_among_all_and_change_nothing_for_the_new(smoothing: float) -> None:
    model, new, kept = network(), table(1, 4), table(0, 3, seed=1)
    run = new_classes(smoothing).begin(still({"student": model}, {"new": new}, {}, name="new_classes", seed=0))
    rows = Rows.join([new, kept])
    h, y = model.read(rows).logits, rows["y"]
    among, at = h[:, [1, 4]], h.gather(1, y[:, None])[:, 0]
    own = among.logsumexp(1) - ((1 - smoothing) * at + smoothing * among.mean(1) if smoothing else at)
    found, plain = run.loss(View(model, rows, {})), F.cross_entropy(h, y, reduction="none")
    assert torch.equal(found, torch.cat([own[: new.count], plain[new.count :]]))
    assert (found >= 0).all()
    moves = list(model.module.parameters())
    ours, theirs = (torch.autograd.grad(loss[: new.count].sum(), moves) for loss in (found, own))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_row_of_another_task_that_is_told_counts_among_the_classes_of_its_task() -> None:
    model, new, kept = network(), table(1, 4), table(0, 3, seed=1)
    model.task_classes = torch.tensor(
        [[True, False, False, True, False, False], [False, True, False, False, True, False]]
    )
    rows = kept.having(task=torch.zeros(kept.count, dtype=torch.long))
    run = new_classes().begin(still({"student": model}, {"new": new}, {}, name="new_classes", seed=0))
    h = model.read(rows).logits[:, [0, 3]]
    found = run.loss(View(model, rows, {}))
    assert torch.allclose(found, F.cross_entropy(h, (rows["y"] == 3).long(), reduction="none"), atol=1e-12)


# --- convolved attention

FILTERS = convolve(3, 2)
CONVOLVED = Plan((NEW,), (Weighted(new_classes()),), trainables=(FILTERS,))


def by_hand(W: Tensor, own: dict[str, Tensor], layer: str) -> Tensor:
    """A weight filtered head by head, number by number."""
    k, b, s = (own[f"{layer}.parametrizations.weight.0.{n}"] for n in ("kernel", "bias", "s"))
    heads = W.view(2, 4, 8)
    padded = F.pad(heads, (1, 1, 1, 1))
    found = s.sigmoid()[:, None, None] * heads + b[:, None, None]
    for i in range(3):
        for j in range(3):
            found = found + k[:, :, i, j, None] * padded[:, i : i + 4, j : j + 8]
    return found.reshape(8, 8)


def test_a_task_answers_with_its_parents_weights_filtered() -> None:
    model, memory = network(), {}
    for task in ((0, 1), (2, 3), (4, 5)):
        memory = learned(model, CONVOLVED, table(*task), memory)
    left = memory["convolve"]
    left["parents"]["2"] = 1
    rows = table(4, 5, seed=1)
    plain = network()
    state = dict(model.state())
    for layer in [f"blocks.{i}.attention.{role}" for i in range(2) for role in "qkv"]:
        W = by_hand(state[f"{layer}.weight"], left["tasks"]["1"], layer)
        state[f"{layer}.weight"] = by_hand(W, left["tasks"]["2"], layer)
    plain.load({**state, **{n: t for n, t in left["tasks"]["2"].items() if "parametrizations" not in n}})
    found = answering(FILTERS, model, memory).logits(rows, 2)
    assert torch.allclose(found[:, 4:], plain.module(rows["x"])[:, 4:], atol=1e-10)
    assert torch.isinf(found[:, :4]).all()


def test_no_later_task_changes_what_an_earlier_one_answers() -> None:
    model, memory, rows = network(), {}, table(0, 1, seed=1)
    memory = learned(model, CONVOLVED, table(0, 1), memory)
    shared, first = {n: t.clone() for n, t in model.state().items()}, answering(FILTERS, model, memory).logits(rows, 0)
    for task in ((2, 3), (4, 5)):
        memory = learned(model, CONVOLVED, table(*task), memory)
        assert all(torch.equal(t, shared[n]) for n, t in model.state().items())
        assert torch.equal(answering(FILTERS, model, memory).logits(rows, 0), first)
    convolved = sum(t.numel() for n, t in memory["convolve"]["tasks"]["2"].items() if "parametrizations" in n)
    assert convolved == 2 * 3 * 2 * (3 * 3 + 2)


def test_the_parent_tells_the_new_classes_apart_best() -> None:
    model, memory = network(), {}
    for task in ((0, 1), (2, 3)):
        memory = learned(model, CONVOLVED, table(*task), memory)
    own = memory["convolve"]["tasks"]["0"]  # as the first task all features are alike
    own["norm.weight"] = torch.zeros_like(own["norm.weight"])
    found = learned(model, CONVOLVED, table(4, 5, count=9), memory)
    assert found["convolve"]["parents"] == {"1": 0, "2": 1}


def test_a_row_is_of_the_task_that_is_surest_of_its_views() -> None:
    model, memory = network(), {}
    for task in ((0, 1), (2, 3)):
        memory = learned(model, CONVOLVED, table(*task), memory)
    rows, view = table(0, 2, count=7, seed=1), augment(shift=0.0, noise=0.5)
    run = answering(convolve(3, 2, augment=view, views=4, itself=3), model, memory)
    ctx = still({}, {}, {}, name="answer", seed=0)
    looked_at = [view(rows, ctx) for _ in range(4)]
    unsure = []
    for t in range(2):
        mean = (3 * run.logits(rows, t) + sum(run.logits(v, t) for v in looked_at)) / 7
        p = mean[:, 2 * t : 2 * t + 2].softmax(-1)
        unsure.append(-(p * (p + 1e-4).log()).sum(-1))
    run = answering(convolve(3, 2, augment=view, views=4, itself=3), model, memory)
    assert torch.equal(run.which(rows), torch.stack(unsure).argmin(0))


def test_what_cannot_be_convolved() -> None:
    with pytest.raises(RegraftError, match="must be odd"):
        convolve(4)
    with pytest.raises(RegraftError, match="in no view"):
        convolve(views=3, itself=0)
    memory = learned(network(), CONVOLVED, table(0, 1), {})
    with pytest.raises(RegraftError, match="gives 8 numbers, not 3 heads"):
        learned(network(), Plan((NEW,), (Weighted(new_classes()),), trainables=(convolve(3, 3),)), table(2, 3), memory)


# --- pools


def pooled(part: Any, pull: float = 0.5) -> Plan:
    return Plan((NEW,), (Weighted(new_classes()), Weighted(part, pull)), trainables=(part,))


def features(model: Any, rows: Rows) -> Tensor:
    with torch.no_grad():
        return model.read(rows).features


POOLS = {
    "prompts": prompt_pool(4, 2, 3),
    "prompts, all places read": prompt_pool(4, 2, 3, read="all"),
    "modulations": modulation_pool(4, 2),
}


@pytest.mark.parametrize("part", POOLS.values(), ids=POOLS)
def test_nothing_moves_but_the_pool_and_a_head(part: Any) -> None:
    model, rows = network(), table(0, 1)
    before = {n: t.clone() for n, t in model.state().items()}
    memory = learned(model, pooled(part), rows, {}, steps=5)
    moved = {n for n, t in model.state().items() if not torch.equal(t, before[n])}
    assert moved == (set() if isinstance(part, modulation_pool) else {"head.weight", "head.bias"})
    assert model.state().keys() == before.keys()
    assert not torch.equal(answering(part, model, memory).answer(rows), model.read(rows).logits)


@pytest.mark.parametrize("read", ["prompts", "all"])
def test_each_row_brings_the_prompts_of_its_nearest_keys(read: Any) -> None:
    model, part = network(), prompt_pool(4, 2, 3, read=read)
    memory = learned(model, pooled(part), table(0, 1), {}, steps=5)
    rows, net, own = table(0, 3, count=7, seed=1), model.module, memory["prompt_pool"]
    near = F.cosine_similarity(features(model, rows)[:, None], own["head.prompt_pool.keys"], dim=-1).topk(2).indices
    expected = []
    for r in range(7):
        brought = [own["head.prompt_pool.prompts"][m] for m in near[r]]
        places = net.norm(net.blocks(torch.cat([*brought, net.embed(rows["x"])[r] + net.positions])[None]))[0]
        expected.append(net.head((places[:6] if read == "prompts" else places).mean(0)))
    assert torch.allclose(answering(part, model, memory).answer(rows), torch.stack(expected), atol=1e-10)


def test_each_row_is_modulated_by_the_entry_of_its_nearest_key() -> None:
    model, part = network(), modulation_pool(3, 2, 4.0, query="blocks.0")
    memory: Any = {}
    for task in ((0, 1), (2, 3)):
        memory = learned(model, pooled(part), table(*task), memory, steps=5)
    rows, own, net = table(0, 2, count=7, seed=1), memory["modulation_pool"], model.module
    q = net.blocks[0](net.embed(rows["x"]) + net.positions).mean(1)
    near = F.cosine_similarity(q[:, None], own["head.modulation_pool.keys"], dim=-1).argmax(1)
    expected = []
    for r in range(7):
        one = network()
        names = {n.removesuffix(".modulation_pool.A") for n in own if n.endswith("A")}
        change = {f"{n}.weight": own[f"{n}.modulation_pool.B"] @ own[f"{n}.modulation_pool.A"] for n in names}
        assert len(change) == 2 * 4
        one.load({n: t + 2.0 * change[n][near[r]] if n in change else t for n, t in model.state().items()})
        expected.append(one.module(rows["x"][r : r + 1])[0])
    assert torch.allclose(answering(part, model, memory).answer(rows), torch.stack(expected), atol=1e-10)


@pytest.mark.parametrize("part", POOLS.values(), ids=POOLS)
def test_keys_are_pulled_to_the_queries_that_chose_them(part: Any) -> None:
    model, rows, n = network(), table(0, 1), 2 if isinstance(part, prompt_pool) else 1
    q, name = features(model, rows), f"head.{type(part).__name__}.keys"
    start = learned(model, pooled(part, 0.0), rows, {}, lr=1e-9, steps=1)
    keys = start[type(part).__name__][name].clone().requires_grad_()
    s = F.cosine_similarity(q[:, None], keys, dim=-1)
    rare = torch.ones(4)
    if isinstance(part, modulation_pool):  # what earlier tasks chose comes last
        uses = start["modulation_pool"]["head.modulation_pool.uses"]
        assert int(uses.sum()) == rows.count
        rare = 1 / (uses / uses.sum() + 1e-6)
    chosen = ((s + 1) / 2 * rare / rare.sum()).topk(n).indices
    (-0.7 * s.gather(1, chosen).sum(1).mean()).backward()
    found = learned(model, pooled(part, 0.7), rows, start, lr=1.0, steps=1)[type(part).__name__][name]
    assert torch.allclose(keys.detach() - found, keys.grad, atol=1e-10)


def test_what_a_network_knows_stays_the_identity() -> None:
    model, part, rows = network(), modulation_pool(4, 2, known=True), table(0, 1)
    known = model.read(rows).logits
    memory = learned(model, pooled(part), rows, {}, steps=5)
    assert torch.equal(answering(part, model, memory).answer(rows), known)
    later = learned(model, pooled(part), table(2, 3), memory, steps=5)["modulation_pool"]
    first = memory["modulation_pool"]["head.modulation_pool.uses"] > 0
    for name, tensor in later.items():
        if name.endswith(".B"):
            assert not tensor[first].any()
            assert tensor.any()


def test_what_cannot_be_pooled() -> None:
    with pytest.raises(RegraftError, match="N is 5"):
        prompt_pool(4, 5)
    with pytest.raises(RegraftError, match="no layer 'encoder'"):
        learned(network(), pooled(prompt_pool(4, 2, at="encoder")), table(0, 1), {})
    with pytest.raises(RegraftError, match="no linear layer is called w"):
        learned(network(), pooled(modulation_pool(4, 2, roles=("w",))), table(0, 1), {})


def test_increments_of_the_nearest_entries_are_mixed_by_how_near_they_are() -> None:
    model, part = network(), jare(2, 3, 2, 2, query="blocks.0")
    memory: Any = {}
    for task in ((0, 1), (2, 3)):
        before = memory.get("jare", {})
        memory = learned(model, retrieval(part), table(*task), memory, steps=5)
        memory = learned(model, Plan((NEW,), (Weighted(new_classes()),), trainables=(part,)), table(*task), memory)
        assert all(torch.equal(memory["jare"][n][: len(t)], t) for n, t in before.items()), "an earlier entry moved"
    rows, own, net = table(0, 2, count=5, seed=1), memory["jare"], model.module
    q = (net.blocks[0](net.embed(rows["x"]) + net.positions)).mean(1).view(5, 1, 2, 4)
    s, entries = F.cosine_similarity(q, own["head.jare.keys"][None], dim=-1).mean(-1).topk(3)
    assert own["head.jare.keys"].shape == (4, 2, 4)
    names = [f"blocks.{i}.attention.{role}" for i in range(2) for role in "qv"]
    expected = []
    for r in range(5):
        one, state = network(), dict(model.state())
        for n in names:
            mixed = torch.einsum("m,mok,mki->oi", s[r] / s[r].sum(), *(own[f"{n}.jare.{m}"][entries[r]] for m in "BA"))
            state[f"{n}.weight"] = state[f"{n}.weight"] + mixed
        one.load(state)
        expected.append(one.module(rows["x"][r : r + 1])[0])
    assert torch.allclose(answering(part, model, memory).answer(rows), torch.stack(expected), atol=1e-8)


def retrieval(part: jare) -> Plan:
    keys = replace(part, phase="keys")
    return Plan((NEW,), (Weighted(keys),), trainables=(keys,))


def test_the_nearest_keys_of_each_group_are_pulled() -> None:
    model, rows, part = network(), table(0, 1), jare(3, groups=2, pulled=2, dropout=0.0)
    start = learned(model, retrieval(part), rows, {}, lr=1e-12, steps=1)["jare"]["head.jare.keys"]
    keys = start.clone().requires_grad_()
    s = F.cosine_similarity(features(model, rows).view(12, 1, 2, 4), keys[None], dim=-1)
    (-s.topk(2, 1).values.mean((1, 2)).mean()).backward()
    found = learned(model, retrieval(part), rows, {}, lr=1.0, steps=1)["jare"]["head.jare.keys"]
    assert torch.allclose(start - found, keys.grad, atol=1e-8)


def test_what_cannot_be_retrieved() -> None:
    with pytest.raises(RegraftError, match="no keys were learned"):
        learned(network(), Plan((NEW,), (Weighted(new_classes()),), trainables=(jare(),)), table(0, 1), {})
    with pytest.raises(RegraftError, match="queries of 8 numbers cannot be cut into 3"):
        learned(network(), retrieval(jare(groups=3)), table(0, 1), {})
    with pytest.raises(RegraftError, match="5 keys are pulled, of 4"):
        jare(pulled=5)

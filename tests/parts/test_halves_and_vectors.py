"""Parts of a network that move: random halves of its matrices, and sparse vectors that are kept beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from part_world import PLAIN, SETTINGS, model, run, same, table
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.core.plan import Plan, Weighted
from regraft.engine.edits import apply
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.numerics.halves import drawn
from regraft.parts.edits.add_sparse import add_sparse
from regraft.parts.edits.half_reset import half_reset
from regraft.parts.penalties.l1_start import l1_start
from regraft.parts.trainables.half import half
from regraft.parts.trainables.sparse_vector import sparse_vector
from regraft.parts.trainables.ticket import ticket
from regraft.worlds import llama
from regraft.worlds.tables import perceptron


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved_in(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- halves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_half_of_a_transformer_is_half_of_every_block(depth: int) -> None:
    network = llama.llama(llama.bpe(["one two"], 280), width=16, depth=depth, heads=2, context=8)
    for seed in range(5):
        found = drawn(network, 0.5, "category", (), dice(seed))
        gated = []
        for layer in range(depth):
            of = [name.split(".")[3:5] for name in found if f"layers.{layer}." in name]
            assert sum(block == "self_attn" for block, _ in of) == 2
            gated.append(sum(block == "mlp" for block, _ in of))
        assert set(gated) <= {1, 2}
        assert sum(gated) == (3 * depth + 1) // 2
        layers = drawn(network, 0.5, "layer", (), dice(seed))
        assert {name.split(".")[2] for name in layers} == {
            str(i) for i in range(depth) if f"model.layers.{i}.mlp.up_proj.weight" in layers
        }
        assert len(layers) == 7 * ((depth + 1) // 2)
        assert len(drawn(network, 0.5, "model", (), dice(seed))) == (7 * depth + 1) // 2
    rest = drawn(network, 1.0, "category", ("embeddings", "norms", "head"), dice())
    assert rest == {slot.name for slot in network.slots()}
    assert drawn(network, 1.0, "category", (), dice()) == {n for n in rest if "_proj" in n}


def test_half_of_a_plain_network_is_half_of_its_matrices() -> None:
    network = perceptron(4, 6, 6, 6, 6, 3, seed=0)
    found = drawn(network, 0.5, "category", ("head",), dice())
    assert len(found) == 6
    assert {"8.weight", "8.bias"} < found
    assert all((f"{i}.weight" in found) == (f"{i}.bias" in found) for i in (0, 2, 4, 6))
    with pytest.raises(RegraftError, match="the network has no numbered layers"):
        drawn(network, 0.5, "layer", (), dice())


def test_what_is_held_stays_bit_for_bit_and_is_drawn_anew_in_every_update() -> None:
    network, memory, seen = perceptron(4, 6, 6, 6, 6, 3, seed=0), dict[str, Any](), set()
    for _ in range(6):  # all with one seed
        before = {name: tensor.clone() for name, tensor in network.state().items()}
        rows = table(30)
        rows = rows.having(x=rows["x"].float())
        memory = fit(network, PLAIN + Plan(trainables=(half(rest=()),)), {"new": rows}, SETTINGS, memory=memory).memory
        assert moved_in(before, dict(network.state())) == set(memory["half"]["moved"])
        seen.add(tuple(memory["half"]["moved"]))
    assert memory["half"]["updates"] == 6
    assert len(seen) > 1
    assert same(run(PLAIN)[0], run(PLAIN + Plan(trainables=(half(ratio=1.0),)))[0])


def test_what_was_drawn_to_be_kept_is_kept_and_the_rest_goes_back() -> None:
    old, new = perceptron(4, 6, 6, 3, seed=0), perceptron(4, 6, 6, 3, seed=1)
    before = {name: tensor.clone() for name, tensor in new.state().items()}
    memory = apply(half_reset(rest=()), new, {}, {}, others={"before": old})
    back = moved_in(before, dict(new.state()))
    assert len(back) == 4  # one hidden layer, and the head
    assert all(torch.equal(new.state()[name], old.state()[name]) for name in back)
    assert same(memory["half_reset"], dict(new.state()))
    new.load(before)
    apply(half_reset(rest=()), new, {}, {"half_reset": dict(old.state())})
    assert same(memory["half_reset"], dict(new.state()))
    apply(half_reset(), new, {}, {})
    assert same(memory["half_reset"], dict(new.state())), "with nothing to go back to it changes nothing"
    with pytest.raises(RegraftError, match="the ratio is 0"):
        half(ratio=0.0)
    with pytest.raises(RegraftError, match=r"the ratio that is kept is 1\.5"):
        half_reset(ratio=1.5)


# --- sparse vectors --------------------------------------------------------------------------------------------------


def learned(name: str, K: float, seed: int, memory: dict[str, Any]) -> dict[str, Any]:
    """Memory with one more vector; the network is the same afterwards."""
    network, rows = model(), {"new": table(30, seed)}
    start = {name: tensor.clone() for name, tensor in network.state().items()}
    memory = fit(network, PLAIN + Plan(trainables=(ticket(K),)), rows, SETTINGS, memory=memory).memory
    assert same(start, dict(network.state()))
    memory = fit(network, PLAIN + Plan(trainables=(sparse_vector(name),)), rows, SETTINGS, memory=memory).memory
    assert same(start, dict(network.state()))
    return memory


def test_a_ticket_is_what_moved_farthest() -> None:
    start, after = dict(model().state()), run(PLAIN)[0]
    mu = run(PLAIN + Plan(trainables=(ticket(0.2),)))[1].memory["ticket"]
    moved = torch.cat([(after[name] - start[name]).abs().flatten() for name in ("0.weight", "0.bias")])
    mask = torch.cat([mu[name].flatten() for name in ("0.weight", "0.bias")])
    assert int(mask.sum()) == 6  # a fifth of 30
    assert moved[mask].min() > moved[~mask].max()
    assert mu["2.weight"].all()
    assert mu["2.bias"].all()


def test_vectors_add_up_in_any_order_to_the_same_bits() -> None:
    memory: dict[str, Any] = {}
    for seed, name in enumerate("bac"):
        memory = learned(name, 0.4, seed, memory)
    vectors = memory["sparse_vectors"]
    assert set(vectors) == set("abc")
    assert len(vectors["a"]["0.weight"]["at"]) + len(vectors["a"]["0.bias"]["at"]) == 12
    found = []
    for of in (("a", "b", "c"), ("c", "a", "b"), ()):
        network = model()
        apply(add_sparse(of), network, {}, memory)
        found.append(dict(network.state()))
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    one = model()
    apply(add_sparse(("b",)), one, {}, memory)
    for name, tensor in model().state().items():
        part = vectors["b"].get(name, {"at": torch.empty(0, dtype=torch.long), "by": torch.empty(0).double()})
        expected = tensor.flatten().clone()
        expected[part["at"]] += part["by"]
        assert torch.equal(one.state()[name].flatten(), expected)
    whole = learned("all", 1.0, 0, {})
    apply(add_sparse(), one := model(), {}, whole)
    plain = run(PLAIN, {"new": table(30)})[0]
    assert all(torch.allclose(one.state()[name], tensor, atol=1e-12) for name, tensor in plain.items())


def test_the_penalty_is_the_mean_of_what_changed() -> None:
    network = model()
    running = l1_start().begin(type("ctx", (), {"models": {"student": network}})())
    changed = {name: tensor.detach() - 0.5 for name, tensor in network.weights().items()}
    assert running.penalty(network.weights()).item() == 0.0
    assert running.penalty(changed).item() == pytest.approx(0.5, abs=1e-12)
    tensor = changed["0.weight"].requires_grad_()
    [g] = torch.autograd.grad(running.penalty({**changed, "0.weight": tensor}), [tensor])
    assert torch.allclose(g, torch.full_like(g, -1 / sum(t.numel() for t in changed.values())), atol=1e-12)
    once = Training(steps=1, batch=8, lr=0.1, optimizer="SGD", clip=None)
    assert same(run(PLAIN, training=once)[0], run(PLAIN + Plan(penalties=(Weighted(l1_start()),)), training=once)[0])


def test_vectors_that_cannot_be() -> None:
    with pytest.raises(RegraftError, match="no ticket is in memory"):
        run(PLAIN + Plan(trainables=(sparse_vector(),)))
    with pytest.raises(RegraftError, match="no sparse vectors are in memory"):
        apply(add_sparse(), model(), {}, {})
    with pytest.raises(RegraftError, match="there is no vector 'b'"):
        apply(add_sparse(("b",)), model(), {}, {"sparse_vectors": {"a": {}}})
    wrong = {"a": {"9.weight": {"at": torch.tensor([0]), "by": torch.tensor([1.0])}}}
    with pytest.raises(RegraftError, match=r"the model has no tensor '9\.weight'"):
        apply(add_sparse(), model(), {}, {"sparse_vectors": wrong})
    with pytest.raises(RegraftError, match="K is 0"):
        ticket(0.0)

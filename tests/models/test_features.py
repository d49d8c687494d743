"""Features: what the last layer reads, of every family that has one, and nobody else is disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regraft.core.parts import View
from regraft.core.rows import Rows
from regraft.models.causal import CausalLM
from regraft.models.classifier import Classifier
from regraft.numerics import decoding
from regraft.numerics.rollout import write

SMALL: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MORE = {"Llama": {"intermediate_size": 32}, "Qwen2": {"intermediate_size": 32, "num_key_value_heads": 2}}


def build(name: str = "Llama") -> CausalLM:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SMALL, **MORE.get(name, {}))
    return CausalLM(getattr(transformers, f"{name}ForCausalLM")(config).eval())


def rows(count: int = 3, places: int = 5) -> Rows:
    ids = torch.randint(1, 31, (count, places + 1), generator=torch.Generator().manual_seed(1))
    columns = {"input_ids": ids[:, :-1], "targets": ids[:, 1:], "counts": torch.ones(count, places)}
    return Rows({**columns, "positions": torch.arange(places).expand(count, -1)})


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules())


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "GPTNeoX"])
def test_of_a_language_model_they_are_what_its_output_layer_reads(name: str) -> None:
    model = build(name)
    view = View(model, rows(), {})
    last = model.last_layer
    assert last is not None
    assert view.features.shape == (3, 5, 16)
    assert torch.equal(last(view.features), view.logits)
    view.features.square().sum().backward()
    moved = {n for n, p in model.module.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("layers.0" in name for name in moved)
    assert hooks(model.module) == 0
    assert torch.equal(view.part(slice(1, 3)).features, view.features[1:3])


def test_of_a_classifier_and_of_its_copy() -> None:
    model = Classifier(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    twin = model.copy()
    twin.module[0].weight.data.zero_()  # type: ignore[index]
    table = Rows({"x": torch.randn(2, 3), "y": torch.zeros(2, dtype=torch.long)})
    both = [m.read(table).features for m in (model, twin)]
    assert all(isinstance(f, Tensor) and f.shape == (2, 4) for f in both)
    assert torch.equal(both[0], model.module[:2](table["x"]))  # type: ignore[index, arg-type]
    assert not torch.equal(both[0], both[1])  # type: ignore[arg-type]
    assert hooks(model.module) == hooks(twin.module) == 0


def test_a_network_that_raises_is_listened_to_no_longer() -> None:
    model = build()
    with pytest.raises(IndexError):
        model.read(rows().having(input_ids=torch.full((3, 5), 99)))
    assert hooks(model.module) == 0


def test_who_writes_by_hand_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    seen: list[int] = []
    plain = decoding._plain

    def watch(layer: Any) -> bool:
        seen.append(len(layer._forward_pre_hooks))
        return plain(layer)

    monkeypatch.setattr(decoding, "_plain", watch)
    model.read(rows())
    assert decoding.by_hand(model.module, 12)
    write(model, [[1, 2]], torch.Generator(), tokens=3)
    assert seen
    assert not any(seen)


def test_a_wrapped_or_compiled_network_has_them_too(tmp_path: Path) -> None:
    import torch.distributed as dist

    model = build()
    plain = model.read(rows()).features
    assert plain is not None
    model.runner = torch.compile(model.module, backend="eager")
    for _ in range(3):
        found = model.read(rows()).features
        assert found is not None
        assert torch.allclose(found, plain, atol=1e-6)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model.runner = nn.parallel.DistributedDataParallel(model.module, find_unused_parameters=True)
        found = model.read(rows()).features
        assert found is not None
        assert torch.equal(found, plain)
        found.sum().backward()
        model.runner = model.module
    finally:
        dist.destroy_process_group()

"""Layers by what they are for, in the words of other families."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from regraft.core.errors import RegraftError
from regraft.models.backbones import of_timm
from regraft.numerics.roles import heads_of, linear_layers, roles_of, stack
from regraft.worlds import transformers

SHAPE = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(**SHAPE, image_size=8, patch_size=4, num_channels=1))


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(**SHAPE, vocab_size=20))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    return LlamaForSequenceClassification(LlamaConfig(**SHAPE, num_key_value_heads=1, vocab_size=20))


def ours() -> nn.Module:
    return transformers.vision(2, seed=0, width=12, heads=3).module


def of_timms() -> nn.Module:
    pytest.importorskip("timm")
    shape = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 12, "depth": 2, "num_heads": 3}
    return of_timm("vit_tiny_patch16_224", 2, **shape).module


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("blocks.0.attention.q", "q"),
        ("encoder.layer.1.attention.self.value", "v"),
        ("layers.3.self_attn.k_proj", "k"),
        ("blocks.0.attn.qkv", "q k v"),
        ("blocks.0.attn.proj", "o"),
        ("proj", "proj"),
        ("layer.0.attention.output.dense", "o"),
        ("layer.0.output.dense", "down"),
        ("layer.0.intermediate.dense", "up"),
        ("mlp.fc1", "up"),
        ("pooler.dense", "dense"),
        ("", ""),
    ],
)
def test_the_longest_known_ending_says_the_role(name: str, roles: str) -> None:
    assert " ".join(roles_of(name)) == roles


@pytest.mark.parametrize(
    ("made", "per_block"),
    [
        (ours, ["attention.q", "attention.v", "up", "down"]),
        (bert, ["attention.self.query", "attention.self.value", "intermediate.dense", "output.dense"]),
        (vit, ["attention.q_proj", "attention.v_proj", "mlp.fc1", "mlp.fc2"]),
        (llama, ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"]),
        (of_timms, ["attn.qkv", "mlp.fc1", "mlp.fc2"]),
    ],
)
def test_the_layers_of_every_block_are_found(made: Any, per_block: list[str]) -> None:
    network = made()
    blocks = stack(network).blocks
    assert len(blocks) == 2
    found = linear_layers(network, ("q", "v", "up", "down"), who="test")
    assert list(found) == [f"{block}.{name}" for block in blocks for name in per_block]


@pytest.mark.parametrize(
    ("made", "heads"), [(ours, [3] * 3), (bert, [3] * 3), (vit, [3] * 3), (llama, [3, 1, 1]), (of_timms, [9])]
)
def test_heads_are_those_of_the_attention(made: Any, heads: list[int]) -> None:
    network = made()
    layers = linear_layers(network, ("q", "k", "v"), who="test")
    assert [heads_of(network, name, of.out_features, who="test") for name, of in layers.items()] == heads * 2


@pytest.mark.parametrize(
    ("made", "norm"),
    [(ours, "norm"), (bert, None), (vit, "vit.layernorm"), (llama, "model.norm"), (of_timms, "norm")],
)
def test_the_normalisation_behind_the_last_block(made: Any, norm: str | None) -> None:
    assert stack(made()).norms == (() if norm is None else (norm,))


def test_the_innermost_list_that_attends_is_the_stack() -> None:
    whole = nn.Sequential(ours())
    assert stack(whole).blocks == ("0.blocks.0", "0.blocks.1")
    assert stack(nn.Sequential(nn.Linear(2, 2))) == ((), ())


def test_a_word_that_is_no_role_is_the_last_of_a_name() -> None:
    network = bert()
    assert all(name.endswith(".key") for name in linear_layers(network, ("key",), who="test"))
    dense = linear_layers(network, ("dense",), who="test")
    assert {"bert.pooler.dense", "bert.encoder.layer.0.output.dense"} <= dense.keys()
    with pytest.raises(RegraftError, match=r"^test: no linear layer is called w or x. Their names end in: 0, 2$"):
        linear_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), ("w", "x"), who="test")
    with pytest.raises(RegraftError, match=r"nothing around 'q' says how many heads it has. Say it: `heads`"):
        heads_of(nn.ModuleDict({"q": nn.Linear(2, 2)}), "q", 2, who="test")


def test_a_layer_of_q_k_and_v_has_the_heads_of_all_three() -> None:
    attention = nn.ModuleDict({"qkv": nn.Linear(4, 12)})
    attention.num_heads = 2  # type: ignore[assignment]
    assert heads_of(attention, "qkv", 12, who="test") == 6
    attention.head_dim = 2  # type: ignore[assignment]
    assert heads_of(attention, "qkv", 12, who="test") == 6

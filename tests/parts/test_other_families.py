"""Methods on the transformers that people have: ViT and BERT of transformers, ViT of timm, at random and small."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.data.scenario import Scenario, split_classes
from regraft.engine.edits import still
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.backbones import of_timm, of_transformers
from regraft.models.classifier import Classifier
from regraft.parts.losses.new_classes import new_classes
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.trainables.convolve import Convolved, convolve
from regraft.parts.trainables.prompt_pool import prompt_pool
from regraft.recipes.strategy import live, method_named

CLASSES, PLACES, SIDE = 4, 7, 8
SHAPE = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
TRAINING = Training(steps=1, batch=8, lr=0.01, optimizer="SGD", clip=1.0, explode=1e9)
NEW = Feed("new", shuffled())


def vit() -> Classifier:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**SHAPE, image_size=SIDE, patch_size=4, num_channels=1, num_labels=CLASSES)
    return of_transformers(ViTForImageClassification(config))


def bert() -> Classifier:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(**SHAPE, vocab_size=40, pad_token_id=0, num_labels=CLASSES)
    return of_transformers(BertForSequenceClassification(config))


def llama() -> Classifier:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(**SHAPE, vocab_size=40, pad_token_id=0, num_labels=CLASSES)
    return of_transformers(LlamaForSequenceClassification(config))


def of_timms(**other: Any) -> Classifier:
    pytest.importorskip("timm")
    shape = {"img_size": SIDE, "patch_size": 4, "in_chans": 1, "embed_dim": 12, "depth": 2, "num_heads": 3}
    return of_timm("vit_tiny_patch16_224", CLASSES, **shape, **other)


def new(make: Any, **other: Any) -> Classifier:
    torch.manual_seed(1)
    model: Classifier = make(**other)
    return model


@cache
def images(count: int = 24) -> Rows:
    dice = torch.Generator().manual_seed(0)
    y = torch.arange(count) % CLASSES
    x = torch.randn(CLASSES, 1, SIDE, SIDE, generator=dice)[y]
    return Rows({"x": x + 0.3 * torch.randn(x.shape, generator=dice), "y": y})


@cache
def texts(count: int = 24) -> Rows:
    """Words of a class's own; every third text ends earlier."""
    dice = torch.Generator().manual_seed(0)
    y = torch.arange(count) % CLASSES
    x = torch.randint(1, 9, (count, PLACES), generator=dice) + 8 * y[:, None]
    x[::3, 5:] = 0
    return Rows({"x": x, "y": y})


def stream(rows: Rows) -> Scenario:
    return split_classes(rows, rows, 2)


NETWORKS = {"ViT": (vit, images), "BERT": (bert, texts), "Llama": (llama, texts), "timm": (of_timms, images)}
REFUSED = {
    ("contracon", "BERT"): r"augment: the inputs are \[7\] of whole numbers, no image that could be shifted",
    ("contracon", "Llama"): "augment: the inputs are",
    ("l2p", "Llama"): "the network's blocks turn each place by its position",
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["l2m", "slm", "contracon", "l2p"])
def test_a_method_acts_at_its_defaults_or_says_why_not(name: str, network: str) -> None:
    make, rows = NETWORKS[network]
    model, tasks = new(make), stream(rows())
    if (name, network) in REFUSED:
        with pytest.raises(RegraftError, match=REFUSED[name, network]):
            live(model, tasks, method_named(name)(), TRAINING, epochs=1.0)
        return
    before = {n: t.clone() for n, t in model.state().items()}
    found = live(model, tasks, method_named(name)(), TRAINING, epochs=1.0)
    assert found.memory
    assert model.state().keys() == before.keys()
    moved = {n for n, t in model.state().items() if not torch.equal(t, before[n])}
    if name == "l2p":
        assert moved == {f"{model.head_name}.weight", f"{model.head_name}.bias"}
    elif name != "contracon":
        assert not moved


def learned(model: Classifier, part: Any, rows: Rows, memory: Any) -> Any:
    plan = Plan((NEW,), (Weighted(new_classes()),), trainables=(part,))
    training = replace(TRAINING, steps=5, batch=rows.count, lr=0.1)
    return fit(model, plan, {"new": rows}, training, memory=memory).memory


def answered(part: Any, model: Classifier, memory: Any, rows: Rows) -> Tensor:
    run = part.begin(still({"student": model}, {}, memory, name="answer", seed=0))
    with torch.no_grad():
        model.module.eval()
        found: Tensor = run.answer(rows)
    return found


@pytest.mark.parametrize("read", ["prompts", "all"])
def test_prompts_come_before_the_first_block_and_are_read_behind_the_last_norm(read: Any) -> None:
    model, rows, part = new(vit), images(), prompt_pool(4, 2, 3, read=read)
    memory = learned(model, part, rows, {})
    own, net = memory["prompt_pool"], model.module.network
    with torch.no_grad():
        embedded = net.vit.embeddings(rows["x"])

        def places(x: Tensor) -> Tensor:
            for layer in net.vit.layers:
                x = layer(x)
            norm: Tensor = net.vit.layernorm(x)
            return norm

        q = places(embedded)[:, 0]
        keys, prompts = (own[f"{model.head_name}.prompt_pool.{name}"] for name in ("keys", "prompts"))
        near = F.cosine_similarity(q[:, None], keys, dim=-1).topk(2).indices
        given = places(torch.cat([prompts[near].flatten(1, 2), embedded], 1))
        expected = net.classifier(given[:, 6] if read == "all" else given[:, :6].mean(1))
    assert torch.allclose(answered(part, model, memory, rows), expected, atol=1e-5)


def test_with_prompts_no_place_sees_padding() -> None:
    model, part = new(bert), prompt_pool(4, 2, 3)
    memory = learned(model, part, texts(), {})
    short = texts().take(slice(None, None, 3))
    together = answered(part, model, memory, texts())[::3]
    alone = answered(part, model, memory, short.having(x=short["x"][:, :5]))
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together, model.read(short).logits, atol=1e-3)


def test_where_the_norm_comes_after_pooling_the_last_block_gives_the_prompts() -> None:
    model, part = new(of_timms, global_pool="avg"), prompt_pool(4, 2, 3)
    memory = learned(model, part, images(), {})
    run = part.begin(still({"student": model}, {}, memory, name="answer", seed=0))
    model.module.eval()
    assert torch.isfinite(run.answer(images())).all()
    assert run._out() == "blocks.1"


def test_a_layer_of_q_k_and_v_is_filtered_as_three_layers_are() -> None:
    part, model, memory = convolve(3), new(of_timms), {}
    for task in (1, 3):
        rows = images().where((images()["y"] == task) | (images()["y"] == task - 1))
        memory = learned(model, part, rows, memory)
    own = memory["convolve"]["tasks"]["1"]
    inside = "blocks.0.attn.qkv.parametrizations.weight.0."
    its = {name.removeprefix(inside): t for name, t in own.items() if name.startswith(inside)}
    W, dice = model.module.blocks[0].attn.qkv.weight, torch.Generator()
    whole = Convolved(9, 3, None, dice)
    whole.load_state_dict(its)
    for i, third in enumerate(W.chunk(3)):
        one = Convolved(3, 3, None, dice)
        one.load_state_dict({name: t.chunk(3)[i] for name, t in its.items()})
        assert torch.equal(one(third), whole(W).chunk(3)[i])

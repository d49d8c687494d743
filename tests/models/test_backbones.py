"""Classifiers on the networks of others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.core.rows import Rows
from regraft.models.backbones import of_timm, of_transformers, pretrained, tokenizer_of
from regraft.models.classifier import Classifier


def test_images_by_transformers() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    network = ViTForImageClassification(ViTConfig(**shape, image_size=8, patch_size=4, num_channels=1, num_labels=5))
    model = of_transformers(network)
    out = model.read(Rows({"x": torch.randn(3, 1, 8, 8), "y": torch.tensor([0, 1, 2])}))
    assert out.logits.shape == (3, 5)
    assert out.features is not None
    assert torch.allclose(model.head(out.features), out.logits)


def test_texts_by_transformers_see_no_padding(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from regraft.worlds.llama import bpe

    tokenizer = bpe(["one two three four"], 280)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(**shape, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, tokenise = pretrained(str(tmp_path), 3, "text"), tokenizer_of(str(tmp_path))
    model.module.eval()
    together, alone = tokenise(["one", "two three four one two"]), tokenise(["one"])
    y = torch.tensor([0])
    read = model.read(Rows({"x": together[:1], "y": y})).logits
    assert torch.allclose(read, model.read(Rows({"x": alone, "y": y})).logits, atol=1e-6)
    (tmp_path / "model.safetensors").unlink()
    assert torch.equal(tokenizer_of(str(tmp_path))(["one"]), alone), "no weights are read for the tokenizer"


def test_networks_of_timm() -> None:
    pytest.importorskip("timm")
    model = of_timm("resnet10t", 4, in_chans=1)
    assert model.read(Rows({"x": torch.randn(2, 1, 32, 32), "y": torch.tensor([0, 1])})).logits.shape == (2, 4)
    with pytest.raises(RegraftError, match="timm cannot make 'no_such'"):
        of_timm("no_such", 4)


def test_a_folder_that_there_is_not_is_said_without_asking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    import transformers

    asked: list[str] = []

    def unknown(_: object, name: str, **__: object) -> None:
        asked.append(name)
        raise OSError("404")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unknown)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", None)
    monkeypatch.setattr(transformers.AutoModelForImageClassification, "from_pretrained", None)
    for place in ("./none", "/none", "a/b/c"):
        with pytest.raises(RegraftError, match=f"^{place}: there is no such folder$"):
            tokenizer_of(place)
    assert asked == []
    with pytest.raises(RegraftError, match=r"^no-such-model: there is no such folder, and none on the hub: 404"):
        pretrained("no-such-model", 3, "images")
    assert asked == ["no-such-model"]


def vit(channels: int) -> Classifier:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(**shape, image_size=8, patch_size=4, num_channels=channels, num_labels=2)
    return of_transformers(ViTForImageClassification(config))


def test_grey_images_are_given_to_every_channel() -> None:
    model, grey, y = vit(3), torch.randn(5, 1, 8, 8), torch.zeros(5, dtype=torch.long)
    expected = model.read(Rows({"x": grey.repeat(1, 3, 1, 1), "y": y})).logits
    assert torch.equal(model.read(Rows({"x": grey, "y": y})).logits, expected)
    with pytest.raises(RegraftError, match="the network reads images of 3 channels; these have 4"):
        model.read(Rows({"x": torch.randn(5, 4, 8, 8), "y": y}))
    with pytest.raises(RegraftError, match="the network reads images of 1 channels; these have 3"):
        vit(1).read(Rows({"x": torch.randn(5, 3, 8, 8), "y": y}))

"""A causal language model in the house: documents of one block are kept apart, or the family is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.models.causal import CausalLM

SMALL: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def build(name: str, **more: Any) -> CausalLM:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **more})
    return CausalLM(getattr(transformers, f"{name}ForCausalLM")(config))


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Mistral"])
def test_families_that_build_attention_from_positions_pass(name: str) -> None:
    model = build(name, intermediate_size=32, num_key_value_heads=2)
    model.module.train()
    model.check_packing()
    assert model.module.training


def test_gpt_2_passes() -> None:
    import transformers

    CausalLM(
        transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2))
    ).check_packing()


@pytest.mark.parametrize("context", [1, 2, 3, 5])
def test_a_short_context_is_checked_as_far_as_it_goes(context: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=context)
    model = CausalLM(transformers.GPT2LMHeadModel(config))
    model.check_packing()

    def leaks(input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool) -> Any:
        assert input_ids.shape[1] <= context
        return model.module(input_ids=input_ids, use_cache=use_cache)

    monkeypatch.setattr(model, "runner", leaks)
    if context == 1:
        model.check_packing()
        return
    with pytest.raises(RegraftError, match="does not keep the documents of a packed block apart"):
        model.check_packing()


@pytest.mark.parametrize("name", ["OPT", "Bloom", "Mamba"])
def test_families_that_leak_are_refused(name: str) -> None:
    more = {"ffn_dim": 32, "word_embed_proj_dim": 16} if name == "OPT" else {}
    with pytest.raises(RegraftError, match="does not keep the documents of a packed block apart"):
        build(name, **more).check_packing()

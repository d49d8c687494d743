"""Rollouts: what is written is what the network says, whichever way it is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from regraft.core.errors import RegraftError
from regraft.models.causal import CausalLM
from regraft.numerics.decoding import by_hand, decoder
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import Written, write
from regraft.numerics.sampling import Sampling, inverse
from regraft.worlds import llama

SIZE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 96,
    "pad_token_id": 96,
}
OTHERS = {"LlamaConfig": {}, "MistralConfig": {}, "Qwen2Config": {}, "Qwen3Config": {"head_dim": 16}}
BY_MODULE = {
    "Gemma2Config": {"head_dim": 8},
    "GPTNeoXConfig": {},
    "GPT2Config": {},
    "MistralConfig": {"sliding_window": 5},
}
FAMILIES = [(name, knobs, True) for name, knobs in OTHERS.items()] + [
    (name, knobs, False) for name, knobs in BY_MODULE.items()
]
PROMPTS = [[1, 2, 3, 4, 5, 6], [7], [8, 9, 10], [11, 12, 13, 14, 15, 16]]


def network(name: str = "LlamaConfig", **knobs: Any) -> CausalLM:
    import transformers

    config = getattr(transformers, name)(**{**SIZE, **knobs})
    torch.manual_seed(0)
    module = transformers.AutoModelForCausalLM.from_config(config)
    for p in module.parameters():  # far from the beginning, where all tokens are alike
        p.data += 0.2 * torch.randn_like(p)
    return CausalLM(module.eval())


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def said(model: CausalLM, ids: list[int]) -> Tensor:
    """Log-probabilities of the next token after each, [tokens, vocabulary]."""
    with torch.no_grad():
        logits: Tensor = model.module(input_ids=torch.tensor([ids])).logits[0]
    return logits.float().log_softmax(-1)


def check(model: CausalLM, written: Written, prompts: list[list[int]], *, temperature: float = 1.0) -> None:
    """Log-probabilities are those of one pass over the whole row."""
    for row, number in enumerate(written.prompt.tolist()):
        prompt, ids = prompts[number], written.ids(row)
        rows = said(model, prompt + ids) / temperature
        wanted = rows.log_softmax(-1)[torch.arange(len(ids)) + len(prompt) - 1, ids]
        assert torch.allclose(written.log_probs[row, : len(ids)], wanted, atol=2e-5)
        assert not written.log_probs[row, len(ids) :].any()
        assert not written.tokens[row, len(ids) :].any()


@pytest.mark.parametrize(("name", "knobs", "hand"), FAMILIES)
def test_a_network_writes_what_it_says(name: str, knobs: dict[str, Any], hand: bool) -> None:
    model = network(name, **knobs)
    assert by_hand(model.module, 40) == hand
    written = write(model, PROMPTS, dice(), tokens=12, copies=3, rows=5)
    assert written.prompt.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    check(model, written, PROMPTS)


@pytest.mark.parametrize(("name", "knobs", "hand"), FAMILIES)
def test_greedy_tokens_are_those_of_generate(name: str, knobs: dict[str, Any], hand: bool) -> None:
    model = network(name, **knobs)
    written = write(model, PROMPTS, dice(), tokens=12, how=Sampling(temperature=0.0))
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        its = model.module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert written.ids(row) == its[0, len(prompt) :].tolist()


def test_a_row_does_not_depend_on_the_others() -> None:
    model = network()
    whole = write(model, PROMPTS, dice(), tokens=10, copies=2)
    for rows in (1, 3):
        other = write(model, PROMPTS, dice(), tokens=10, copies=2, rows=rows)
        assert torch.equal(whole.tokens, other.tokens)
        assert torch.allclose(whole.log_probs, other.log_probs, atol=1e-5)
    again = write(model, PROMPTS, dice(), tokens=10, copies=2)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert not torch.equal(whole.tokens, write(model, PROMPTS, dice(1), tokens=10, copies=2).tokens)


def test_rows_end_one_by_one() -> None:
    model = network()
    model.module.generation_config.eos_token_id = list(range(40, 60))
    written = write(model, PROMPTS, dice(), tokens=30, copies=8)
    assert int(written.ended.sum()) > 0
    assert len(set(written.lengths.tolist())) > 3
    for row in range(len(written.prompt)):
        ids = written.ids(row)
        over = [i in range(40, 60) or i == 96 for i in ids]
        assert not any(over[:-1])
        assert over[-1] == bool(written.ended[row])
        assert written.ended[row] or len(ids) == 30
    check(model, written, PROMPTS)


def test_tokens_are_as_likely_as_the_network_says() -> None:
    model = network()
    for how in (Sampling(), Sampling(temperature=0.7), Sampling(top_k=5), Sampling(top_p=0.6, temperature=1.3)):
        drawn = write(model, [[5, 6]], dice(), tokens=1, copies=20_000, how=how, rows=20_000).tokens[:, 0]
        probs = (said(model, [5, 6])[-1] / how.temperature).softmax(-1)
        order = probs.sort(descending=True)
        kept = torch.ones_like(probs, dtype=torch.bool)
        if how.top_k:
            kept[order.indices[how.top_k :]] = False
        kept[order.indices[(order.values.cumsum(0) - order.values) >= how.top_p]] = False
        wanted = probs * kept / (probs * kept).sum()
        found = drawn.bincount(minlength=97) / 20_000
        assert not found[~kept].any()
        assert (found - wanted).abs().max() < 0.015


def test_what_has_no_weight_is_never_drawn() -> None:
    weights = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]]).repeat(4, 1)
    at = torch.tensor([2**-24, 0.2999, 0.3001, 1.0])
    assert inverse(weights, at).tolist() == [1, 1, 3, 3]


def test_the_model_is_left_as_it_was() -> None:
    model = network()
    model.module.train()
    before = {name: t.clone() for name, t in model.state().items()}
    write(model, PROMPTS, dice(), tokens=3)
    assert all(layer.training for layer in model.module.modules())
    assert all(torch.equal(before[name], t) for name, t in model.state().items())


def test_a_text_ends_a_row() -> None:
    tokenizer = llama.bpe(["the cat sat. the dog ran.\n" * 20], 300)
    model = llama.llama(tokenizer, width=32, depth=1, context=64)
    written = write(model, [tokenizer("the")["input_ids"]], dice(), tokens=50, copies=16, stop=("a", "og"))
    for row in range(16):
        text, before = (tokenizer.decode(written.ids(row)[:n]) for n in (None, -1))
        assert not any(stop in before for stop in ("a", "og"))
        over = any(stop in text for stop in ("a", "og")) or written.ids(row)[-1] == tokenizer.eos_token_id
        assert over == bool(written.ended[row])
    assert written.ended.any()


def test_a_row_ends_where_the_context_does() -> None:
    model = network(eos_token_id=None)
    model.module.generation_config.eos_token_id = None
    written = write(model, [[1] * 60, [2] * 3], dice(), tokens=20)
    assert written.lengths.tolist() == [4, 20]
    assert not written.ended.any()
    check(model, written, [[1] * 60, [2] * 3])


@pytest.mark.parametrize(
    ("prompts", "knobs", "said_of_it"),
    [
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1] * 64], {}, "prompt 0 has 64 tokens, and the model's context of 64 leaves room for none"),
        ([[1]], {"tokens": 0}, "tokens 0"),
        ([[1]], {"stop": ("",)}, "a stop is empty"),
        ([[1]], {"stop": ("x",)}, "no tokenizer"),
    ],
)
def test_what_cannot_be_written(prompts: list[list[int]], knobs: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(RegraftError, match=said_of_it):
        write(network(), prompts, dice(), **{"tokens": 4, **knobs})


def test_nothing_is_written_after_no_prompt() -> None:
    written = write(network(), [], dice(), tokens=4)
    assert written.tokens.shape == (0, 0)


@pytest.mark.parametrize("knobs", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}])
def test_sampling_that_cannot_be(knobs: dict[str, Any]) -> None:
    with pytest.raises(RegraftError):
        Sampling(**knobs)


def test_a_matrix_that_is_computed_is_read_as_it_is() -> None:
    from torch.nn.utils import parametrize

    class Twice(torch.nn.Module):
        def forward(self, W: Tensor) -> Tensor:
            return 2 * W

    model = network()
    for layer in model.module.model.layers:
        parametrize.register_parametrization(layer.self_attn.q_proj, "weight", Twice())
        parametrize.register_parametrization(layer.mlp.down_proj, "weight", Twice())
    assert by_hand(model.module, 40)
    check(model, write(model, PROMPTS, dice(), tokens=6), PROMPTS)


def test_rows_are_kept_in_any_order() -> None:
    for name in ("LlamaConfig", "GPTNeoXConfig"):
        model = network(name)
        with torch.no_grad():
            rows = decoder(model.module, Padded.of(PROMPTS, model.device), torch.tensor([0, 1, 2, 3]), 12)
            rows.step(torch.tensor([20, 21, 22, 23]))
            rows.keep(torch.tensor([3, 1]))
            rows.step(torch.tensor([30, 31]))
        for row, ids in enumerate(([*PROMPTS[3], 23, 30], [*PROMPTS[1], 21, 31])):
            assert torch.allclose(rows.logits[row].log_softmax(-1), said(model, ids)[-1], atol=2e-5)

"""Decoding: what a causal language model says of the next token of many rows at once, with a cache of keys and values.

A network that is built as Llama is (Llama, Mistral, Qwen and their kin) is read here layer by layer: one product for
what reads the same input, and no copy of the cache. Any other goes through its own forward pass with the cache of
transformers. Which of the two is found by trying: the first only where both say the same.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.numerics.padded import Padded

_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
_JOINED_UP_TO = 1 << 29
"""Bytes of weights up to which matrices that read the same input are joined, which copies them."""
_TRIED, _CLOSE = 6, 1e-4


class Decoder(Protocol):
    """Rows that are being continued. A row that is full may be read on with the others: what is said of it is nothing.

    Attributes:
        logits: of the next token of each row, [rows, tokens].
    """

    logits: Tensor

    def step(self, tokens: Tensor) -> None:
        """Reads one more token of each row, int64 [rows]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows alone, int64."""
        ...


def decoder(module: Any, prompts: Padded, of: Tensor, room: int) -> Decoder:
    """Rows that begin with a prompt each.

    Args:
        module: the network, in evaluation mode; gradients are not asked for.
        prompts: none is empty.
        of: which prompt each row begins with, int64 [rows]. A prompt is read once, however many rows begin with it.
        room: how many tokens a row may have, its prompt included.
    """
    if by_hand(module, room):
        return _ByHand(module, prompts, of, room)
    return _ByModule(module, prompts, of, room)


# --- any network


class _ByModule:
    """Through the network's own forward pass; prompts are padded at their start."""

    def __init__(self, module: Any, prompts: Padded, of: Tensor, room: int) -> None:
        from transformers import DynamicCache

        self.module = module
        self.logits: Tensor
        count, longest = prompts.ids.shape
        places = torch.arange(longest, device=prompts.ids.device)
        missing = (longest - prompts.lengths)[:, None]
        real = places >= missing
        ids = prompts.ids.gather(1, (places - missing).clamp(min=0))
        self.cache = DynamicCache(config=module.config)
        most = longest + room - int(prompts.lengths.min())
        self.known = torch.ones(count, most, dtype=torch.long, device=ids.device)
        self.known[:, :longest] = real
        self.position = (places - missing).clamp(min=0)
        self.read, self.room = longest, room
        self._pass(ids)
        self.keep(of)

    def _pass(self, ids: Tensor) -> None:
        said = self.module(
            input_ids=ids,
            position_ids=self.position,
            attention_mask=self.known[:, : self.read],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = said.logits[:, -1]
        self.position = self.position[:, -1:]

    def step(self, tokens: Tensor) -> None:
        self.read, self.position = self.read + 1, (self.position + 1).clamp(max=self.room - 1)
        self._pass(tokens[:, None])

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.known, self.position, self.logits = self.known[rows], self.position[rows], self.logits[rows]


# --- networks that are built as Llama is


class _Layer(NamedTuple):
    """What a layer computes of its input x. What `out` and `down` make of their second argument is added to x."""

    qkv: Callable[[Tensor], Tensor]
    norms: Tensor | None
    out: Callable[[Tensor, Tensor], Tensor]
    gate_up: Callable[[Tensor], Tensor]
    act: Callable[[Tensor], Tensor]
    down: Callable[[Tensor, Tensor], Tensor]
    least: Tensor
    scale: float


class _ByHand:
    """Keys and values lie in one table a layer, [rows, 2, heads, room, size]. Prompts are padded at their end: a row's
    own tokens lie where its padding was."""

    def __init__(self, module: Any, prompts: Padded, of: Tensor, room: int) -> None:
        network, config = module.model, module.config
        self.logits: Tensor
        self.size = network.layers[0].self_attn.head_dim
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        join = sum(p.numel() * p.element_size() for p in module.parameters()) <= _JOINED_UP_TO
        self.layers = [_layer(layer, self.heads, self.shared, join) for layer in network.layers]
        self.embedding, self.say = network.embed_tokens, _read(network.norm, [module.lm_head], join)
        like = self.embedding.weight[:1]
        cos, sin = (table[0] for table in network.rotary_emb(like, torch.arange(room, device=of.device)[None]))
        half = self.size // 2
        self.cos, self.sin = cos, torch.cat([-sin[:, :half], sin[:, half:]], 1)  # x rolled by half, times this

        self.lengths = prompts.lengths[of]
        self.longest, self.room = prompts.ids.shape[1], room
        self.even = bool((prompts.lengths == self.longest).all())
        self.cache = [like.new_zeros(len(of), 2, self.shared, room, self.size) for _ in self.layers]
        self._prefill(prompts, of)

    def _prefill(self, prompts: Padded, of: Tensor) -> None:
        count, longest = prompts.ids.shape

        def attend(number: int, q: Tensor, kv: Tensor, scale: float) -> Tensor:
            q = q.unflatten(0, (count, longest)).transpose(1, 2)
            kv = kv.unflatten(0, (count, longest)).movedim(1, 3)
            self.cache[number][:, :, :, :longest] = kv[of]
            grouped = self.heads != self.shared
            said: Tensor = F.scaled_dot_product_attention(
                q, kv[:, 0], kv[:, 1], is_causal=True, scale=scale, enable_gqa=grouped
            )
            return said.transpose(1, 2).flatten(0, 1)

        at = torch.arange(longest, device=of.device).repeat(count)
        x = self._pass(prompts.ids.flatten(), at, attend)
        last = torch.arange(count, device=of.device) * longest + prompts.lengths - 1
        self.logits = self.say(x[last])[of]

    def step(self, tokens: Tensor) -> None:
        last = min(self.longest, self.room - 1)
        row, at = torch.arange(len(tokens), device=tokens.device), self.lengths.clamp(max=self.room - 1)
        seen = None
        if not self.even:
            seen = (torch.arange(last + 1, device=at.device) <= at[:, None])[:, None, None]

        def attend(number: int, q: Tensor, kv: Tensor, scale: float) -> Tensor:
            table = self.cache[number]
            if self.even:
                table[:, :, :, last] = kv
            else:
                table[row, :, :, at] = kv
            keys, values = table[:, 0, :, : last + 1], table[:, 1, :, : last + 1]
            # The queries that share keys are as so many places of one head.
            q = q.unflatten(1, (self.shared, -1))
            said: Tensor = F.scaled_dot_product_attention(q, keys, values, attn_mask=seen, scale=scale)
            return said.flatten(1, 2)

        self.logits = self.say(self._pass(tokens, slice(last, last + 1) if self.even else at, attend))
        self.lengths, self.longest = self.lengths + 1, self.longest + 1

    def keep(self, rows: Tensor) -> None:
        self.cache = [table[rows] for table in self.cache]
        self.lengths, self.logits = self.lengths[rows], self.logits[rows]

    def _pass(self, ids: Tensor, at: Tensor | slice, attend: Callable[..., Tensor]) -> Tensor:
        """What the head reads of tokens at these places, [tokens, width]."""
        x: Tensor = self.embedding(ids)
        cos, sin = self.cos[at][:, None], self.sin[at][:, None]
        turned, half = self.heads + self.shared, self.size // 2
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(x).unflatten(1, (-1, self.size))
            qk = qkv[:, :turned]
            if layer.norms is not None:
                qk.copy_(_unit(qk, layer.least) * layer.norms)
            rolled = qk.roll(half, -1)
            qk.mul_(cos).addcmul_(rolled, sin)
            kv = qkv[:, self.heads :].unflatten(1, (2, -1))
            x = layer.out(x, attend(number, qkv[:, : self.heads], kv, layer.scale).flatten(1))
            gate, up = layer.gate_up(x).chunk(2, -1)
            x = layer.down(x, layer.act(gate) * up)
        return x


def _unit(x: Tensor, least: Tensor) -> Tensor:
    """x / sqrt(sum x² + least²): what RMS normalisation makes of it, over the root of its width."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), least)


def _least(norm: Any) -> Tensor:
    """The root of eps · width."""
    weight: Tensor = norm.weight
    return weight.new_tensor((norm.variance_epsilon * weight.numel()) ** 0.5)


def _layer(layer: Any, heads: int, shared: int, join: bool) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    norms, size = None, attention.head_dim
    if hasattr(attention, "q_norm"):
        each = (attention.q_norm.weight, heads), (attention.k_norm.weight, shared)
        norms = torch.cat([weight.expand(count, -1) for weight, count in each]) * size**0.5
    return _Layer(
        _read(layer.input_layernorm, [attention.q_proj, attention.k_proj, attention.v_proj], join),
        norms,
        _added(attention.o_proj),
        _read(layer.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj], join),
        mlp.act_fn,
        _added(mlp.down_proj),
        _least(attention.q_norm if norms is not None else layer.input_layernorm),
        attention.scaling,
    )


def _plain(layer: Any) -> bool:
    """Whether the layer does what its weight and bias say and nothing else."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward and not hooks


def _linear(layer: Any) -> Callable[[Tensor], Tensor]:
    """The layer; a matrix that is computed anew whenever it is asked for is computed once."""
    if not _plain(layer):
        called: Callable[[Tensor], Tensor] = layer
        return called
    weight, bias = layer.weight, layer.bias
    return lambda x: F.linear(x, weight, bias)


def _added(layer: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """x + layer(y)."""
    if not _plain(layer) or layer.bias is not None:
        made = _linear(layer)
        return lambda x, y: x + made(y)
    weight = layer.weight.T
    return lambda x, y: torch.addmm(x, y, weight)


def _read(norm: Any, layers: Sequence[Any], join: bool) -> Callable[[Tensor], Tensor]:
    """What the layers make of the normalised input, side by side; `join`: by one matrix, which holds the norm's weight
    too."""
    if not join or not all(map(_plain, layers)):
        weight, eps, parts = norm.weight, norm.variance_epsilon, [_linear(layer) for layer in layers]

        def each(x: Tensor) -> Tensor:
            x = F.rms_norm(x, x.shape[-1:], weight, eps)
            return torch.cat([part(x) for part in parts], -1) if len(parts) > 1 else parts[0](x)

        return each
    matrix = torch.cat([layer.weight for layer in layers]) * (norm.weight * norm.weight.numel() ** 0.5)
    zeros = [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    bias = None if all(layer.bias is None for layer in layers) else torch.cat(zeros)
    least = _least(norm)
    return lambda x: F.linear(_unit(x, least), matrix, bias)


_said: weakref.WeakKeyDictionary[nn.Module, tuple[object, bool]] = weakref.WeakKeyDictionary()


def by_hand(module: Any, room: int) -> bool:
    """Whether the network can be read layer by layer: it is built as Llama is, and says the same of a few tokens."""
    window = getattr(module.config, "sliding_window", None)
    if window is not None and getattr(module.config, "use_sliding_window", True) and room > window:
        return False
    built = tuple((name, type(layer)) for name, layer in module.named_modules())
    known = _said.get(module)
    if known is None or known[0] != built:
        known = _said[module] = (built, _as_llama(module) and _same(module))
    return known[1]


def _as_llama(module: Any) -> bool:
    if _children(module) != {"model", "lm_head"}:
        return False
    if _children(module.model) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return False
    for layer in module.model.layers:
        children = _children(layer)
        attention, mlp = (_children(getattr(layer, part, layer)) for part in ("self_attn", "mlp"))
        if children != _LAYER or attention - {"q_norm", "k_norm"} != _ATTENTION or mlp != _MLP:
            return False
    return True


def _children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


@torch.no_grad()
def _same(module: Any) -> bool:
    """Whether both ways say the same of a few tokens, of rows of different lengths."""
    device = next(module.parameters()).device
    ids = torch.arange(_TRIED, device=device).repeat(2, 1) + 3 * torch.arange(2, device=device)[:, None]
    ids = ids % module.get_input_embeddings().weight.shape[0]
    prompts = Padded(ids[:, :-2], torch.tensor([_TRIED - 2, _TRIED - 4], device=device))
    of = torch.tensor([0, 1], device=device)
    close = max(_CLOSE, 4 * torch.finfo(module.dtype).eps)
    with suppress(AttributeError, RuntimeError, TypeError):
        ways = [way(module, prompts, of, _TRIED) for way in (_ByHand, _ByModule)]
        for tokens in (None, ids[:, -2], ids[:, -1]):
            if tokens is not None:
                for way in ways:
                    way.step(tokens)
            mine, its = (way.logits.float() for way in ways)
            if (mine - its).abs().max() > close * its.abs().max():
                return False
        return True
    return False

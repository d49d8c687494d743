"""Rollouts against `generate` of transformers and against the bare forward passes; a preference step against a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.pairs import Ratio, interleaved, ratio
from regraft.core.plan import Feed, Plan, Weighted
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import pair_blocks
from regraft.numerics.decoding import decoder
from regraft.numerics.padded import Padded
from regraft.numerics.rollout import write
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.samplers.shuffled import shuffled
from regraft.worlds import llama

BATCHES, PROMPT, TOKENS = (1, 4, 16, 64), 16, 64
PAIRS, ANSWER, STEPS, LR = 16, 32, 10, 1e-4


def rollouts(rounds: int = 7) -> list[Ratio]:
    """A small Llama without an end token writes `TOKENS` after prompts of `PROMPT`, drawn at random."""
    model = _model()
    model.module.generation_config.eos_token_id = model.module.config.eos_token_id = None
    model.tokenizer.eos_token = None
    model.module.eval()
    found = []
    for batch in BATCHES:
        prompts = _random(batch, PROMPT)
        begun, of = Padded.of(prompts.tolist()), torch.arange(batch)
        turns: dict[str, Callable[[], object]] = {
            "ours": lambda prompts=prompts: write(model, prompts.tolist(), torch.Generator(), tokens=TOKENS),  # type: ignore[misc]
            "generate": lambda prompts=prompts: _generated(model, prompts),  # type: ignore[misc]
            "bare": lambda begun=begun, of=of: _bare(model, begun, of),  # type: ignore[misc]
        }
        seconds = interleaved(turns, rounds)
        what = f"rollouts, {batch} row{'s' if batch > 1 else ''}"
        wanted = 0.5 if batch <= 16 else None
        found.append(ratio(what, seconds["ours"], seconds["generate"], "`generate` of transformers", wanted))
        found.append(ratio(what, seconds["ours"], seconds["bare"], "bare forward passes", 1.25))
    return found


def preferences(rounds: int = 7) -> list[Ratio]:
    """Steps of DPO on pairs, against a loop that reads both answers in one batch."""
    prompts = Padded.of(_random(PAIRS * STEPS, PROMPT).tolist())
    both = [Padded.of(_random(PAIRS * STEPS, ANSWER).tolist()) for _ in range(2)]
    rows = pair_blocks(prompts, *both)
    plan = Plan((Feed("new", shuffled()),), (Weighted(direct_preference()),))
    training = Training(STEPS, PAIRS, LR, knobs={"weight_decay": 0.0}, clip=None, log_every=STEPS)
    ids = [torch.cat([prompts.ids, answers.ids], 1) for answers in both]
    turns: dict[str, Callable[[], object]] = {
        "ours": lambda: fit(_model(), plan, {"new": rows}, training),
        "theirs": lambda: _loop(_model(), ids),
    }
    seconds = interleaved(turns, rounds)
    return [ratio(f"DPO, {PAIRS} pairs", seconds["ours"], seconds["theirs"], "bare loop", 1.05)]


def _model() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=96, depth=4, context=256)


def _random(rows: int, tokens: int) -> Tensor:
    return torch.randint(0, 250, (rows, tokens), generator=torch.Generator().manual_seed(tokens))


def _generated(model: CausalLM, prompts: Tensor) -> object:
    knobs: dict[str, Any] = {"max_new_tokens": TOKENS, "do_sample": True, "top_k": 0, "pad_token_id": 0}
    return model.module.generate(prompts, attention_mask=torch.ones_like(prompts), **knobs)


@torch.no_grad()
def _bare(model: CausalLM, prompts: Padded, of: Tensor) -> None:
    rows = decoder(model.module, prompts, of, PROMPT + TOKENS)
    token = torch.zeros(len(of), dtype=torch.long)
    for _ in range(TOKENS - 1):
        rows.step(token)


def _loop(model: CausalLM, ids: list[Tensor]) -> None:
    before, beta = model.copy(), direct_preference().beta
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=LR, weight_decay=0.0, fused=True)
    order = torch.randperm(len(ids[0]), generator=torch.Generator().manual_seed(0))
    for at in order.split(PAIRS):
        batch = torch.cat([answers[at] for answers in ids])
        said = _said(model.module, batch)
        with torch.no_grad():
            reference = _said(before.module, batch)
        preferred, other = (said - reference).chunk(2)
        optimizer.zero_grad()
        loss = -F.logsigmoid(beta * (preferred - other)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _said(module: Any, ids: Tensor) -> Tensor:
    """Log-probability of each row's answer."""
    log_probs = module(input_ids=ids[:, :-1], use_cache=False).logits.log_softmax(-1)
    each: Tensor = log_probs.gather(2, ids[:, 1:, None])[..., 0]
    return each[:, PROMPT - 1 :].sum(1)

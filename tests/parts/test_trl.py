"""Losses over answers agree with those of TRL, on one batch; skipped where TRL is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_policy import LENGTHS, PLACES, PROMPT, A, blocks, context, log_probs, network, noise, pairs, view
from torch import Tensor

from regraft.numerics.answers import judged_blocks
from regraft.numerics.padded import Padded
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.losses.kto import kto
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.transforms.group_advantage import group_advantage

trl = pytest.importorskip("trl")
CPU = {"use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True}


def tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    from regraft.worlds import llama

    made = llama.bpe([], 0)
    assert isinstance(made, PreTrainedTokenizerFast)
    return made


def trainer(kind: str, folder: Path, **knobs: Any) -> Any:
    """One that is made and not run: only its loss is asked."""
    from datasets import Dataset

    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 4
    settings = getattr(trl, f"{kind}Config")(output_dir=str(folder), **CPU, **knobs)
    given: dict[str, Any] = {"model": network(0).module.float(), "processing_class": tokenizer()}
    if kind == "KTO":
        rows = [{"prompt": "a", "completion": "b", "label": bool(i % 2)} for i in range(4)]
    if kind in ("DPO", "KTO"):
        given["ref_model"] = network(1).module.float()
    else:
        given["reward_funcs"] = lambda completions, **_: [0.0] * len(completions)
    made = getattr(trl, f"{kind}Trainer")(args=settings, train_dataset=Dataset.from_list(rows), **given)
    made.current_gradient_accumulation_steps = 1
    made.model.eval()
    return made


def asked(old: Tensor) -> dict[str, Tensor]:
    rows = blocks()
    ids = torch.cat([rows["input_ids"], rows["targets"][:, -1:]], 1)
    answers = slice(PROMPT - 1, None)
    return {
        "prompt_ids": ids[:, :PROMPT],
        "prompt_mask": torch.ones(len(ids), PROMPT, dtype=torch.long),
        "completion_ids": ids[:, PROMPT:],
        "completion_mask": rows["counts"][:, answers].long(),
        "advantages": A.float(),
        "old_per_token_logps": old[:, answers].float(),
        "ref_per_token_logps": log_probs(network(1), rows)[:, answers].detach().float(),
        "old_logps": (old * rows["counts"]).sum(1).float(),
        "num_items_in_batch": rows["counts"].sum().float(),
    }


@pytest.mark.parametrize(
    ("knobs", "ours"),
    [
        ({"loss_type": "grpo", "beta": 0.1}, policy_gradient(kl=0.1)),
        ({"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False}, policy_gradient(kl=0.1, unbiased=False)),
        ({"loss_type": "grpo", "beta": 0.0, "epsilon_high": 0.28}, policy_gradient(clip=(0.2, 0.28))),
        ({"loss_type": "dr_grpo", "beta": 0.0, "max_completion_length": 7}, policy_gradient(per=7)),
        ({"loss_type": "dapo", "beta": 0.0}, policy_gradient(per="token")),
        ({"loss_type": "grpo", "beta": 0.0, "importance_sampling_level": "sequence"}, policy_gradient(ratio="mean")),
    ],
)
def test_grpo(tmp_path: Path, knobs: dict[str, Any], ours: policy_gradient) -> None:
    size = len(LENGTHS)
    knobs, beta = {**knobs, "beta": 0.0}, knobs["beta"]
    made = trainer("GRPO", tmp_path, num_generations=size, per_device_train_batch_size=size, **knobs)
    made.beta = beta  # made with one, it would load its reference from the hub
    rows = blocks()
    old = log_probs(network(0), rows).detach() + noise()
    wanted = made._compute_loss(made.model, asked(old))
    assert mean(ours, rows.having(advantage=A, old_log_probs=old)) == pytest.approx(wanted.item(), abs=1e-5)


def test_rloo(tmp_path: Path) -> None:
    size = len(LENGTHS)
    made = trainer("RLOO", tmp_path, num_generations=size, per_device_train_batch_size=size, beta=0.0)
    rows = blocks()
    old = log_probs(network(0), rows).detach() + 0.1 * noise()
    wanted = made._compute_loss(made.model, asked(old))
    found = mean(policy_gradient(ratio="answer"), rows.having(advantage=A, old_log_probs=old))
    assert found == pytest.approx(wanted.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("loss", "ours"),
    [
        ("sigmoid", direct_preference(beta=0.3)),
        ("ipo", direct_preference(beta=0.3, by="ipo", per="token")),
        ("hinge", direct_preference(beta=0.3, by="hinge")),
    ],
)
def test_dpo(tmp_path: Path, loss: str, ours: direct_preference) -> None:
    made = trainer("DPO", tmp_path, loss_type=[loss], beta=0.3)
    good, bad, both = pairs()
    ids = torch.cat([torch.cat([r["input_ids"], r["targets"][:, -1:]], 1) for r in (good, bad)])
    counts = torch.cat([good["counts"], bad["counts"]]).long()
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones(len(ids), PLACES + 1, dtype=torch.long),
        "completion_mask": torch.cat([torch.zeros(len(ids), 1, dtype=torch.long), counts], 1),
    }
    wanted = made._compute_loss(made.model, inputs, return_outputs=False)
    assert mean(ours, both) == pytest.approx(wanted.item(), abs=1e-5)


def test_kto(tmp_path: Path) -> None:
    made = trainer("KTO", tmp_path, beta=0.4, desirable_weight=0.7, undesirable_weight=1.6)
    dice, size, longest = torch.Generator().manual_seed(2), 4, 9
    prompts, answers = (torch.randint(1, 49, (size, n), generator=dice) for n in (3, longest - 3))
    good = torch.tensor([True, False, False, True])

    def inputs(of: Tensor, prefix: str) -> dict[str, Tensor]:
        mask = torch.ones(size, longest, dtype=torch.long)
        told = torch.cat([torch.zeros_like(prompts), torch.ones_like(of)], 1)
        ids = torch.cat([prompts, of], 1)
        names = [f"{prefix}{name}" for name in ("input_ids", "attention_mask")]
        return {**dict(zip(names, (ids, mask), strict=True)), f"{prefix}completion_mask": told}

    batch = {**inputs(answers, ""), **inputs(answers.roll(1, 0), "KL_"), "label": good}
    wanted = made._compute_loss(made.model, batch, return_outputs=False)
    rows = judged_blocks(Padded.of(prompts.tolist()), Padded.of(answers.tolist()), good)
    ctx = context()
    running = kto(beta=0.4, good=0.7, bad=1.6).begin(ctx)
    seen = view(ctx, rows.having(counts=rows["counts"].double()))
    running.pooled(running.statistic(seen).mean())
    assert running.loss(seen).mean().item() == pytest.approx(wanted.item(), abs=1e-5)


def mean(part: Any, rows: Any) -> float:
    """The pooled mean of a loss."""
    ctx = context()
    running, seen = part.begin(ctx), view(ctx, rows)
    values, weight = running.loss(seen), running.weight(seen)
    found: Tensor = values.mean() if weight is None else (values * weight).sum() / weight.sum()
    return found.item()


def test_rewards_are_scaled_alike() -> None:
    from regraft.core.rows import Rows

    R = torch.tensor([1.0, 0.0, 0.5, 0.0, 2.0, 2.0, 1.0, 3.0])
    rows = Rows({"group": torch.arange(8) // 4, "reward": R})
    each = R.view(2, 4)
    wanted = (each - each.mean(1, keepdim=True)) / (each.std(1, keepdim=True) + 1e-4)
    assert torch.allclose(group_advantage()(rows, context())["advantage"], wanted.flatten(), atol=1e-5)

"""Steps of GRPO, DPO and fine-tuning on demonstrations, against those of TRL: one model, batch, lengths and optimizer.

    python -m benchmarks.trl        writes docs/benchmarks-trl.md

It needs trl 1.16, which regraft itself never imports. Theirs runs without checkpointing of gradients, in 32 bits, and
writes nothing down; what either prepares before its first step is not counted.
"""

from __future__ import annotations

import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.pairs import Ratio, interleaved, ratio
from regraft.core.define import transform
from regraft.core.parts import Context
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.numerics.answers import answer_blocks, pair_blocks
from regraft.numerics.padded import Padded
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.losses.nll import nll
from regraft.parts.losses.policy_gradient import policy_gradient
from regraft.parts.samplers.rollouts import rollouts
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.worlds import llama

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-trl.md"
HEAD = """# Against TRL

Written by `python -m benchmarks.trl`. Seconds of {steps} steps by ours over those of TRL's trainer ({trl}): a Llama
of 4 layers of width 96, prompts of {prompt} tokens and answers of {answer}, AdamW, groups of {copies} in GRPO. What
both spend on the passes that are learned from is the same, and its share grows with the rows of a step. The two took
turns in one run: the median of the rounds, and the middle half of them. Below 1 we are faster. torch {torch},
transformers {transformers}, Python {python}, 1 thread.

| what | against | ours / theirs | middle half | wanted |
|---|---|---|---|---|
"""
PROMPT, ANSWER, ROWS, COPIES, STEPS, LR = 16, 64, 32, 8, 6, 1e-4
GRPO_ROWS = (8, 16, 32)
LETTERS = torch.arange(ord("a"), ord("z") + 1)


@transform
def vowels(rows: Rows, ctx: Context) -> Rows:
    """The share of a text that are vowels."""
    return rows.having(reward=torch.tensor(_vowels(rows["written"])))


def _vowels(texts: list[str]) -> list[float]:
    return [sum(map(text.count, "aeiou")) / max(1, len(text)) for text in texts]


def against(rounds: int = 5) -> list[Ratio]:
    from datasets import Dataset

    import trl

    count = ROWS * STEPS
    prompts, good, bad = (_text(count, n, seed) for seed, n in enumerate((PROMPT, ANSWER, ANSWER)))
    said = [llama.bpe([], 0).batch_decode(ids) for ids in (prompts, good, bad)]
    words = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in zip(*said, strict=True)]
    asked, *answers = (Padded.of(ids.tolist()) for ids in (prompts, good, bad))
    items = Rows({"prompt_ids": prompts.tolist(), "row": torch.arange(count)})
    written = rollouts(shuffled(), (vowels(), group_advantage()), copies=COPIES, tokens=ANSWER)
    pages = Dataset.from_list([{"input_ids": ids} for ids in torch.cat([prompts, good], 1).tolist()])
    grpo = {
        "num_generations": COPIES,
        "max_completion_length": ANSWER,
        "beta": 0.0,
        "loss_type": "grpo",
        "generation_kwargs": {"min_new_tokens": ANSWER},
    }
    plans = {
        "GRPO": Plan((Feed("new", written),), (Weighted(policy_gradient()),)),
        "DPO": Plan((Feed("new", shuffled()),), (Weighted(direct_preference()),)),
        "SFT": Plan((Feed("new", shuffled()),), (Weighted(nll()),)),
    }
    data = {"GRPO": items, "DPO": pair_blocks(asked, *answers), "SFT": answer_blocks(asked, answers[0])}
    given: dict[str, dict[str, Any]] = {
        "GRPO": {
            "reward_funcs": lambda completions, **_: _vowels(completions),
            "train_dataset": Dataset.from_list([{"prompt": row["prompt"]} for row in words]),
        },
        "DPO": {"train_dataset": Dataset.from_list(words)},
        "SFT": {"train_dataset": pages},
    }
    knobs: dict[str, dict[str, Any]] = {
        "GRPO": grpo,
        "DPO": {"beta": direct_preference().beta},
        "SFT": {"max_length": None},
    }
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, rows, wanted in (
            *(("GRPO", rows, 0.5) for rows in GRPO_ROWS),
            ("DPO", ROWS, 1.0),
            ("SFT", ROWS, 1.0),
        ):
            ready = _trainers(trl, kind, rows, Path(folder), knobs[kind], given[kind], rounds + 1)
            turns: dict[str, Callable[[], object]] = {
                "ours": lambda kind=kind, rows=rows: fit(_model(), plans[kind], {"new": data[kind]}, _training(rows)),  # type: ignore[misc]
                "theirs": lambda ready=ready: next(ready).train(),  # type: ignore[misc]
            }
            seconds = interleaved(turns, rounds)
            found.append(ratio(f"{kind}, {rows} rows", seconds["ours"], seconds["theirs"], f"`{kind}Trainer`", wanted))
    return found


def _trainers(
    trl: Any, kind: str, rows: int, folder: Path, knobs: dict[str, Any], given: dict[str, Any], count: int
) -> Iterator[Any]:
    """Trainers that are ready for their first step."""
    common: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "per_device_train_batch_size": rows,
        "max_steps": STEPS,
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
    }
    made = []
    for _ in range(count):
        model = _model()
        reference = {"ref_model": _model().module} if kind == "DPO" else {}
        made.append(
            getattr(trl, f"{kind}Trainer")(
                model=model.module,
                args=getattr(trl, f"{kind}Config")(**common, **knobs),
                processing_class=model.tokenizer,
                **reference,
                **given,
            )
        )
    return iter(made)


def _training(rows: int) -> Training:
    return Training(STEPS, rows, LR, knobs={"weight_decay": 0.0}, clip=1.0, log_every=STEPS)


def _model() -> CausalLM:
    return llama.llama(llama.bpe([], 0), width=96, depth=4, context=256)


def _text(rows: int, tokens: int, seed: int) -> Tensor:
    """Letters, a token each, drawn at random."""
    at = torch.randint(len(LETTERS), (rows, tokens), generator=torch.Generator().manual_seed(seed))
    letters: list[int] = llama.bpe([], 0).convert_tokens_to_ids([chr(c) for c in LETTERS.tolist()])
    return torch.tensor(letters)[at]


def main() -> None:
    import transformers

    import trl

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    head = HEAD.format(
        steps=STEPS,
        trl=trl.__version__,
        prompt=PROMPT,
        answer=ANSWER,
        copies=COPIES,
        torch=torch.__version__,
        transformers=transformers.__version__,
        python=platform.python_version(),
    )
    PAGE.write_text(head + "\n".join(r.row for r in against()) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

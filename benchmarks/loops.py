"""The loop against bare PyTorch loops and transformers' Trainer:

the same model, batches, optimizer and number of steps.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.pairs import Ratio, interleaved, ratio
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.causal import CausalLM
from regraft.models.classifier import Classifier
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.replay import replay
from regraft.parts.samplers.shuffled import shuffled

SHARE = 0.25
Step = Callable[[Tensor, Tensor], Tensor]


def digits(rounds: int = 15, steps: int = 600, batch: int = 32) -> list[Ratio]:
    """The digits MLP 64-256-256-10 at batch 32, plain and with replay."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    rows = {"new": Rows({"x": x, "y": y}), "past": Rows({"x": x.clone(), "y": y.clone()})}

    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))

    def bare(share: float, fused: bool) -> Callable[[], None]:
        def run() -> None:
            model = net()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
            old = int(share * batch)
            for index, other in zip(_indices(len(x), batch - old, steps), _indices(len(x), old, steps), strict=True):
                inputs, targets = x[index], y[index]
                if old:
                    inputs, targets = torch.cat([inputs, x[other]]), torch.cat([targets, y[other]])
                optimizer.zero_grad()
                F.cross_entropy(model(inputs), targets).backward()
                optimizer.step()

        return run

    def loader() -> None:
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        done = 0
        while done < steps:
            table = torch.utils.data.TensorDataset(x, y)
            for inputs, targets in torch.utils.data.DataLoader(table, batch, shuffle=True, drop_last=True):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
                done += 1
                if done == steps:
                    break

    def ours(share: float) -> Callable[[], None]:
        plan = _plan(share)
        training = Training(steps=steps, batch=batch, lr=1e-3, clip=None)
        return lambda: _done(fit(Classifier(net()), plan, rows, training))

    seconds = interleaved(
        {
            "ours": ours(0.0),
            "bare": bare(0.0, fused=False),
            "bare, fused AdamW": bare(0.0, fused=True),
            "DataLoader": loader,
            "ours, replay": ours(SHARE),
            "bare, replay": bare(SHARE, fused=False),
            "bare, replay, fused AdamW": bare(SHARE, fused=True),
        },
        rounds,
    )
    plain, mixed = "digits MLP, plain plan", "digits MLP, 25% replay"
    return [
        ratio(plain, seconds["ours"], seconds["bare"], "bare loop", 1.05),
        ratio(plain, seconds["ours"], seconds["bare, fused AdamW"], "bare loop with fused AdamW"),
        ratio(plain, seconds["ours"], seconds["DataLoader"], "bare loop with a DataLoader", 0.8),
        ratio(mixed, seconds["ours, replay"], seconds["bare, replay"], "bare loop with replay", 1.05),
        ratio(mixed, seconds["ours, replay"], seconds["bare, replay, fused AdamW"], "the same with fused AdamW"),
    ]


def language(rounds: int = 5, steps: int = 20) -> list[Ratio]:
    """The demo's language model, packed blocks, AdamW, clipping:

    plain, with replay, and against transformers' Trainer.
    """
    from regraft.cli.demo import BATCH, CONTEXT, VOCABULARY
    from regraft.worlds import llama, python_text

    texts = [d["text"] for d in python_text.sample(python_text.docstrings(), 300_000)]
    tokenizer = llama.bpe(texts, VOCABULARY)
    blocks = _blocks(texts, tokenizer, CONTEXT)
    old = blocks.take(torch.arange(blocks.count).flip(0))
    batch = BATCH // CONTEXT

    def model() -> CausalLM:
        return llama.llama(tokenizer, context=CONTEXT, seed=0)

    def bare(share: float) -> Callable[[], None]:
        def run() -> None:
            network: Any = model().module
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
            few = int(share * batch)
            for index, other in zip(
                _indices(blocks.count, batch - few, steps), _indices(old.count, few, steps), strict=True
            ):
                now = (
                    {n: torch.cat([blocks[n][index], old[n][other]]) for n in blocks}
                    if few
                    else {n: blocks[n][index] for n in blocks}
                )
                optimizer.zero_grad()
                logits = network(input_ids=now["input_ids"], position_ids=now["positions"], use_cache=False).logits
                each = F.cross_entropy(logits.flatten(0, 1), now["targets"].flatten(), reduction="none")
                ((each * now["counts"].flatten()).sum() / now["counts"].sum()).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()

        return run

    def ours(share: float) -> Callable[[], None]:
        training = Training(steps=steps, batch=batch, lr=1e-3)
        return lambda: _done(fit(model(), _plan(share), {"new": blocks, "past": old}, training))

    seconds = interleaved(
        {
            "ours": ours(0.0),
            "bare": bare(0.0),
            "ours, replay": ours(SHARE),
            "bare, replay": bare(SHARE),
            "Trainer": _trainer(model, blocks, batch, steps),
        },
        rounds,
    )
    return [
        ratio("demo's language model, plain plan", seconds["ours"], seconds["bare"], "bare loop", 1.02),
        ratio(
            "demo's language model, 25% replay",
            seconds["ours, replay"],
            seconds["bare, replay"],
            "bare loop with replay",
            1.05,
        ),
        ratio("demo's language model, plain plan", seconds["ours"], seconds["Trainer"], "transformers' Trainer", 1.0),
    ]


def _trainer(model: Callable[[], CausalLM], blocks: Rows, batch: int, steps: int) -> Callable[[], None]:
    from transformers import Trainer, TrainingArguments

    class Table(torch.utils.data.Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return blocks.count

        def __getitem__(self, i: int) -> dict[str, Tensor]:
            ids, counts = blocks["input_ids"][i], blocks["counts"][i]
            # Trainer's models shift the labels themselves.
            labels = torch.cat([ids[:1] * 0 - 100, torch.where(counts[:-1] > 0, ids[1:], -100)])
            return {"input_ids": ids, "position_ids": blocks["positions"][i], "labels": labels}

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=batch,
                learning_rate=1e-3,
                max_grad_norm=1.0,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            )
            with contextlib.redirect_stdout(None):
                Trainer(model().module, arguments, train_dataset=Table()).train()

    return run


def _plan(share: float) -> Plan:
    feeds = (Feed("new", shuffled()), *([Feed("past", replay(), share)] if share else []))
    return Plan(feeds=feeds, losses=(Weighted(nll()),))


def _blocks(texts: list[str], tokenizer: Any, context: int) -> Rows:
    import json
    from pathlib import Path

    from regraft.data.corpus import build_corpus
    from regraft.data.pack import pack
    from regraft.data.read import documents

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.jsonl")
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        rows = pack(build_corpus(documents([str(path)]), tokenizer, cache=Path(folder, "cache")), context, seed=0).rows
        return rows.take(slice(0, rows.count)).only("input_ids", "positions", "targets", "counts")


def _indices(count: int, each: int, steps: int) -> Iterator[Tensor]:
    """Shuffled passes over `count` places, `each` at a time."""
    order, at = torch.randperm(count), 0
    for _ in range(steps):
        if at + each > count:
            order, at = torch.randperm(count), 0
        yield order[at : at + each]
        at += each


def _done(_: object) -> None:
    return None

"""What the house costs beside the loop: start of commands, disk of a small change, peak memory of an update."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from regraft.store import Draft, Line


def start(rounds: int = 7) -> dict[str, float]:
    """CPU seconds of commands that need no torch, the median of the rounds, on a line of 20 versions."""
    with tempfile.TemporaryDirectory() as folder:
        line = Line.create(Path(folder, "line"))
        for i in range(20):
            line.commit(Draft(message=f"version {i}"))
        commands = {"--help": ["--help"], "methods": ["methods"], "log": ["log", str(line.path)]}
        return {name: sorted(_cpu(c) for _ in range(rounds))[rounds // 2] for name, c in commands.items()}


def _cpu(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "regraft", *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def disk() -> float:
    """Disk of a version in which 1 of 100 equal tensors changed, over that of the version before."""
    with tempfile.TemporaryDirectory() as folder:
        line = Line.create(Path(folder, "line"))
        tensors = {f"layer.{i}": torch.randn(256, 256) for i in range(100)}
        first = line.commit(Draft(bundles={"release": {n: line.put_tensor(t) for n, t in tensors.items()}}))
        before = line.disk().total
        tensors["layer.7"] = torch.randn(256, 256)
        line.commit(
            Draft(parents=(first.id,), bundles={"release": {n: line.put_tensor(t) for n, t in tensors.items()}})
        )
        return (line.disk().total - before) / before


_MEMORY = """
import resource, sys, torch
from torch.nn import functional as F
from benchmarks.loops import _indices, _plan
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.worlds import llama
from transformers import LlamaConfig, LlamaForCausalLM
from regraft.models.causal import CausalLM
torch.set_num_threads(1)
torch.manual_seed(0)
config = LlamaConfig(vocab_size=4096, hidden_size=256, intermediate_size=704, num_hidden_layers=6,
                     num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256,
                     tie_word_embeddings=True)
model = CausalLM(LlamaForCausalLM(config))
ids = torch.randint(0, 4096, (64, 257))
rows = Rows({"input_ids": ids[:, :-1].contiguous(), "positions": torch.arange(256).repeat(64, 1),
             "targets": ids[:, 1:].contiguous(), "counts": torch.ones(64, 256)})
if sys.argv[1] == "ours":
    fit(model, _plan(0.0), {"new": rows}, Training(steps=6, batch=8, lr=1e-3))
else:
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=1e-3)
    for index in _indices(64, 8, 6):
        optimizer.zero_grad()
        batch = {"input_ids": rows["input_ids"][index], "position_ids": rows["positions"][index]}
        logits = model.module(**batch, use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), rows["targets"][index].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.module.parameters(), 1.0)
        optimizer.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory(rounds: int = 3) -> float:
    """Peak resident memory of a plain update over that of the bare loop, the median of interleaved rounds."""

    def peak(who: str) -> int:
        done = subprocess.run([sys.executable, "-c", _MEMORY, who], capture_output=True, text=True, check=True)
        return int(done.stdout)

    return sorted(peak("ours") / peak("bare") for _ in range(rounds))[rounds // 2]

"""A task of a stream, by our loop and by a loop over DataLoaders, as the libraries for continual learning build on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.pairs import Ratio, interleaved, ratio
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.fit import fit
from regraft.engine.training import Training
from regraft.models.classifier import Classifier
from regraft.numerics.fisher import diagonal_fisher
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.reservoir import reservoir
from regraft.parts.samplers.shuffled import shuffled

BATCH, MEMORY, EPOCHS = 32, 200, 10


def streams(rounds: int = 15) -> list[Ratio]:
    """Digits, MLP 64-256-256-10, SGD, 32 rows a batch, alone and with 32 rows of a memory of 200 beside them."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    rows = Rows({"x": x, "y": y, "row": torch.arange(len(x))})
    old = {"x": x[:MEMORY].clone(), "y": y[:MEMORY].clone()}
    steps = EPOCHS * (len(x) // BATCH)

    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))

    def by_loaders(replay: bool) -> Callable[[], None]:
        def run() -> None:
            model = net()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            new = _endless(DataLoader(TensorDataset(x, y), BATCH, shuffle=True, drop_last=True))
            kept = _endless(DataLoader(TensorDataset(old["x"], old["y"]), BATCH, shuffle=True, drop_last=True))
            for _ in range(steps):
                inputs, targets = next(new)
                if replay:
                    more, their = next(kept)
                    inputs, targets = torch.cat([inputs, more]), torch.cat([targets, their])
                optimizer.zero_grad()
                F.cross_entropy(model(inputs), targets).backward()
                optimizer.step()

        return run

    def ours(replay: bool) -> Callable[[], object]:
        memory = (Feed("memory", reservoir(MEMORY), beside=1.0),) if replay else ()
        plan = Plan((Feed("new", shuffled()), *memory), (Weighted(nll()),))
        training = Training(steps=steps, batch=BATCH, lr=0.05, optimizer="SGD", clip=None)
        left: dict[str, Any] = {"reservoir": {"columns": old, "seen": MEMORY}} if replay else {}
        return lambda: fit(Classifier(net()), plan, {"new": rows}, training, memory=left)

    seconds = interleaved(
        {
            "ours": ours(False),
            "loaders": by_loaders(False),
            "ours, replay": ours(True),
            "loaders, replay": by_loaders(True),
            "Fisher": lambda: [diagonal_fisher(Classifier(net()), rows) for _ in range(EPOCHS)],
        },
        rounds,
    )
    return [
        ratio("a task, plain", seconds["ours"], seconds["loaders"], "loop over a DataLoader", 0.8),
        ratio("a task, replay", seconds["ours, replay"], seconds["loaders, replay"], "loop over two DataLoaders", 0.8),
        ratio("EWC's Fisher information of all rows", seconds["Fisher"], seconds["ours"], "one plain epoch", 2.0),
    ]


def _endless(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from loader

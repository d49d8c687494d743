"""Several processes under torchrun: the model whole in each (DDP) or in pieces (FSDP2).

Every process draws the same batch with the same dice and reads its own consecutive part of it. Losses are divided by
what the rows of the whole step weigh, and gradients summed, so a step equals that of one process with the whole batch,
up to rounding. Checkpoints hold whole tensors, written by the first process: a run may go on under any number of them.

    memory      DDP: weights, gradients and optimizer state in every process. FSDP2: a piece of each in every process,
                one transformer block gathered at a time; gradients are reduced in every micro-batch, since to keep them
                whole in between would cost what FSDP2 saves. Before and after training each process holds the whole
                model, which must fit its device without gradients and optimizer state.
    optimizer   FSDP2: those that treat each entry by itself.
    parts       penalties, gradient transforms and landings are given whole tensors; under FSDP2 that gathers them. A
                part that needs the model `before` asks for it in `begin`.
    buffers     of the first process, such as running statistics of batch normalisation, are the ones kept.
    checkpoint  weights and optimizer state lie once in the first process's memory: 84 GB for 7B parameters in float32
                with AdamW. A checkpoint is read as a memory-mapped file, which the processes of a machine share.

Source: DDP, Li et al. 2020, https://arxiv.org/abs/2006.15704; FSDP, Zhao et al. 2023, https://arxiv.org/abs/2304.11277.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from regraft.core.errors import RegraftError
from regraft.core.parts import View, Weights
from regraft.core.rows import Rows
from regraft.engine import checkpoint
from regraft.engine.processes import Bill, Layout, Processes, Sums, clipped
from regraft.engine.training import Training
from regraft.models.base import canonical

Parallel: TypeAlias = Literal["ddp", "fsdp"]

# The others wait while the first one reads and tokenises; that a process died is noticed by torchrun, not by a clock.
_PATIENCE = timedelta(days=7)
_BY_ENTRY = {"ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"}
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@contextmanager
def joined(parallel: Parallel = "ddp") -> Iterator[Group]:
    """The processes that torchrun started, this one among them.

    An error ends all of them: the first process that meets one raises it, the others leave without a word (SystemExit).
    """
    store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    group = (Sharded if parallel == "fsdp" else Replicated)(PrefixStore("regraft", store))
    try:
        yield group
        group.part()
        dist.destroy_process_group()
    except (Exception, KeyboardInterrupt) as error:
        if group.first_to_fail():
            if isinstance(error, dist.DistBackendError) or "gloo/transport" in str(error):  # gloo has no type for it
                raise RegraftError("another process of the run died", do="Find out why, then --resume") from error
            raise
        raise SystemExit(error.exit_code if isinstance(error, RegraftError) else 1) from error


class Group(Processes):
    """The processes of torch.distributed's default group: what is the same for DDP and FSDP2."""

    def __init__(self, store: Store) -> None:
        self.store, self.turn = store, 0
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.device = torch.device("cpu")

    def local(self, device: str) -> str:
        return f"cuda:{torch.cuda.current_device()}" if device == "cuda" and torch.cuda.is_available() else device

    def part(self) -> None:
        """Returns when all are done. Not a collective: one of gloo's threads may still be in it when Python ends."""
        if self.store.add("done", 1) == self.size:
            self.store.set("all done", "")
        self.store.wait(["all done"])

    def first_to_fail(self) -> bool:
        """Whether no other process has said that it failed."""
        return bool(self.store.add("failed", 1) == 1)

    def share(self, rows: Rows, layout: Layout) -> tuple[Rows, Layout]:
        mine, real = self.even(rows)
        start = self.rank * mine.count
        if real < mine.count:
            weight = (torch.arange(mine.count) < real).float()
            mine = mine.having(weight=weight * mine["weight"] if "weight" in mine else weight)
        return mine, clipped(layout, start, start + real)

    def even(self, rows: Rows) -> tuple[Rows, int]:
        each = -(-rows.count // self.size)
        start = self.rank * each
        if start + each <= rows.count:
            return rows.take(slice(start, start + each)), each
        places = torch.arange(start, start + each).clamp(max=rows.count - 1)
        return rows.take(places), max(0, rows.count - start)

    def totals(self, values: Sequence[Tensor | float]) -> Sequence[Tensor | float]:
        if not values:
            return values
        return list(self.sum(torch.stack([torch.as_tensor(v, device=self.device).double() for v in values])))

    def sum(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        mine = torch.cat(list(values)) if values else torch.empty(0, device=self.device)
        said = [len(mine), _FLOATS.index(mine.dtype), *mine.shape[1:], -1, -1][:4] if values else [0, -1, -1, -1]
        sizes = [torch.zeros(4, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor(said))
        counts, kinds, *dims = torch.stack(sizes).T.tolist()
        trailing = [max(d) for d in dims if max(d) >= 0]
        padded = mine.new_zeros(max(counts), *trailing, dtype=_FLOATS[max(kinds)])
        if values:
            padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def pooled(self, sums: Mapping[str, Sums], feeds: Sequence[str]) -> Mapping[str, Sums]:
        known = [(float(sums[f][0]), float(sums[f][1]), 1.0) if f in sums else (0.0, 0.0, 0.0) for f in feeds]
        table = self.sum(torch.tensor(known, dtype=torch.float64, device=self.device)).tolist()
        return {feed: (value, weight) for feed, (value, weight, there) in zip(feeds, table, strict=True) if there}

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        votes = torch.tensor([*flags, False], dtype=torch.uint8)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return tuple(map(bool, votes[:-1].tolist()))

    def collect(self, tree: Any) -> list[Any]:
        self.turn += 1
        keys = [f"{self.turn}/{rank}" for rank in range(self.size)]
        self.store.set(keys[self.rank], checkpoint.to_bytes(tree))  # type: ignore[arg-type]
        if self.rank:
            return []
        trees = [checkpoint.from_bytes(self.store.get(key)) for key in keys]
        for key in keys:
            self.store.delete_key(key)
        return trees

    def tell(self, value: Any) -> Any:
        self.turn += 1
        if self.rank == 0:
            self.store.set(str(self.turn), json.dumps(value))
        return json.loads(self.store.get(str(self.turn)))

    def spread(self, model: Any, training: Training) -> None:
        self.device = model.device
        if self.rank:
            torch.manual_seed(torch.initial_seed() + self.rank)

    def bill(self, bill: Bill, view: View) -> Bill:
        # Every process makes every forward and backward pass, or the others would wait for it.
        bill = bill or [((nothing := view.logits[:0].sum()), torch.ones_like(nothing))]
        return [(values, counts * self.size) for values, counts in bill]  # gradients are averaged


class Replicated(Group):
    """The whole model in every process (DDP)."""

    def spread(self, model: Any, training: Training) -> None:
        super().spread(model, training)
        # Without the search, a tensor that one process's rows do not touch (an expert) would hold up all. Buffers are
        # not exchanged: the processes need not make the same number of forward passes. torch renames that switch.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
            ddp = nn.parallel.DistributedDataParallel
            self.ddp = ddp(model.module, broadcast_buffers=False, find_unused_parameters=True)
        model.runner = self.ddp

    def restore(self, model: Any) -> None:
        for buffer in model.module.buffers():
            dist.broadcast(buffer, 0)
        model.runner = model.module
        del self.ddp

    @contextmanager
    def _alone(self, precision: AbstractContextManager[Any]) -> Iterator[None]:
        with self.ddp.no_sync(), precision:
            yield

    def reading(self, precision: AbstractContextManager[Any], last: bool) -> AbstractContextManager[Any]:
        return precision if last else self._alone(precision)

    def bill(self, bill: Bill, view: View) -> Bill:
        bill = super().bill(bill, view)
        if self.ddp.require_backward_grad_sync:
            # A module beside the last layer is read by a loss, not in the forward pass, after which DDP has looked for
            # the tensors that will have a gradient: it looks again, from the losses.
            self.ddp.reducer.prepare_for_backward([values for values, _ in bill])
        return bill

    def state(self, model: Any) -> Mapping[str, Tensor]:
        return {} if self.rank else super().state(model)

    def gathered(self, tree: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return {} if self.rank else tree


class Sharded(Group):
    """A piece of every tensor in every process (FSDP2).

    While it trains, the model's module is a twin of the same structure whose parameters are pieces; the module itself
    is empty meanwhile, and has the new weights after `restore`.
    """

    def spread(self, model: Any, training: Training) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        if training.optimizer not in _BY_ENTRY:
            raise RegraftError(
                f"{training.optimizer} looks at whole tensors, of which a process holds pieces",
                where="fsdp",
                do=f"Use ddp, or one of {', '.join(sorted(_BY_ENTRY))}",
            )
        super().spread(model, training)
        self.module: nn.Module = model.module
        shared = {id(p): p for p in self.module.parameters()}
        self.twin: Any = copy.deepcopy(self.module, {**shared, id(model): model})
        mesh = init_device_mesh(self.device.type, (self.size,))
        policy, self.half = MixedPrecisionPolicy(), training.precision == "bfloat16"
        if self.half:
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for module in (*_blocks(self.twin), self.twin):
            fully_shard(module, mesh=mesh, mp_policy=policy)
        for p in self.module.parameters():
            p.data = p.data.new_empty(0)
        model.module = model.runner = self.twin

    @torch.no_grad()
    def restore(self, model: Any) -> None:
        pieces = self._pieces()
        for name, p in self.module.named_parameters():
            p.data = self.full(pieces[name]).detach()
        for buffer, ours in zip(self.module.buffers(), self.twin.buffers(), strict=True):
            dist.broadcast(ours, 0)
            buffer.copy_(ours)
        self.module.train(self.twin.training)
        model.module = model.runner = self.module
        del self.twin, self.module

    def evaluating(self) -> AbstractContextManager[Any]:
        # What is gathered is bfloat16 here too, and a float32 buffer would not meet it.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def _pieces(self) -> Mapping[str, Tensor]:
        """Parameters and persistent buffers of the twin, each process's piece of them; tied tensors are one object."""
        self.twin.reshard()
        pieces: Mapping[str, Tensor] = self.twin.state_dict(keep_vars=True)
        return pieces

    def full(self, tensor: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor

        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def piece(self, tensor: Tensor, like: Tensor) -> Tensor:
        from torch.distributed.tensor import DTensor, Replicate

        if not isinstance(like, DTensor) or tensor.shape != like.shape:
            return tensor
        whole = DTensor.from_local(tensor.to(like.device), like.device_mesh, [Replicate()], run_check=False)
        return whole.redistribute(placements=like.placements)

    def weights(self, model: Any) -> Weights:
        self.twin.reshard()
        return {name: self.full(tensor) for name, tensor in model.weights().items()}

    @torch.no_grad()
    def state(self, model: Any) -> Mapping[str, Tensor]:
        once: dict[int, tuple[str, Tensor]] = {}
        for name, tensor in self._pieces().items():
            once.setdefault(id(tensor), (canonical(name), tensor))
        return self.gathered(dict(once.values()))

    def gathered(self, tree: Mapping[Any, Any]) -> Mapping[Any, Any]:
        whole: Mapping[Any, Any] = self._gathered(tree)
        return {} if self.rank else whole

    def _gathered(self, tree: Any) -> Any:
        if isinstance(tree, Tensor):
            whole = self.full(tree)
            return None if self.rank else whole.detach().cpu()
        if isinstance(tree, Mapping):
            return {key: self._gathered(value) for key, value in tree.items()}
        return [self._gathered(value) for value in tree] if isinstance(tree, list) else tree

    @torch.no_grad()
    def load(self, model: Any, weights: Weights) -> None:
        pieces = {canonical(name): tensor for name, tensor in self._pieces().items()}
        for name, tensor in weights.items():
            pieces[name].copy_(self.piece(tensor, pieces[name]))

    def load_optimizer(self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        cut = {
            i: {k: self.piece(v, params[i]) if isinstance(v, Tensor) else v for k, v in known.items()}
            for i, known in saved["state"].items()
        }
        optimizer.load_state_dict({**saved, "state": cut})


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The transformer blocks: the members of the outermost module lists."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if any(True for _ in block.parameters()))
        else:
            yield from _blocks(child)

"""Channel-wise lightweight reprogramming: a frozen convolutional network, its channels filtered anew for every task.

    y = DW_m(conv(x))        DW_m: one m x m kernel a channel, no bias, identity at first

after every convolution whose kernel is larger than 1. A task owns these kernels, the normalisation layers and the
head. The network is `given`, or else the first task of a stream trains it whole, and later ones find it frozen.

Paper:   "CLR: Channel-wise Lightweight Reprogramming for Continual Learning" Ge et al. 2023. https://arxiv.org/abs/2307.11386
Claim:   with few tensors a task it is more accurate than a new head on the frozen network and forgets nothing.
Needs:   a network with such convolutions; rows that say in column `task` of which task they are.
Leaves:  `reprogram`: what every task owns.
Differs: the paper's network is always given.
Tags:    parameter isolation, exemplar-free, task-incremental
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import nn

from regraft.core.errors import RegraftError
from regraft.core.parts import Context
from regraft.numerics.per_task import PerTask, norms_and_head

DEPTHWISE = {nn.Conv1d: nn.Conv1d, nn.Conv2d: nn.Conv2d}


@dataclass(frozen=True)
class reprogram:
    """`given`: the network was trained before the stream, and no task moves it."""

    m: int = 3
    given: bool = False

    def __post_init__(self) -> None:
        if self.m < 1 or self.m % 2 == 0:
            raise RegraftError(f"reprogram: m is {self.m}; it must be odd and at least 1")

    def begin(self, ctx: Context) -> _Reprogram:
        return _Reprogram(self, ctx)


class _Reprogram(PerTask):
    key = "reprogram"

    def __init__(self, part: reprogram, ctx: Context) -> None:
        super().__init__(ctx)
        self.part = part
        if part.given:
            self.whole, self.anchor = False, -1

    def modules(self, network: nn.Module, task: int) -> Mapping[str, nn.Module]:
        found = {
            name: self._dirac(layer)
            for name, layer in network.named_modules()
            if isinstance(layer, nn.Conv1d | nn.Conv2d) and max(layer.kernel_size) > 1
        }
        if not found:
            raise RegraftError("reprogram: the network has no convolution with a kernel larger than 1")
        return found

    def _dirac(self, layer: nn.Conv1d | nn.Conv2d) -> nn.Module:
        m, channels = self.part.m, layer.out_channels
        depthwise = DEPTHWISE[type(layer)](channels, channels, m, padding=m // 2, groups=channels, bias=False)
        nn.init.dirac_(depthwise.weight, groups=channels)
        return depthwise

    def put(self, layer: nn.Module, module: nn.Module) -> Callable[[], object]:
        layer.add_module(self.key, module)
        handle = layer.register_forward_hook(lambda layer, _, output: getattr(layer, self.key)(output))

        def take_out() -> None:
            handle.remove()
            delattr(layer, self.key)

        return take_out

    def plain(self, network: nn.Module) -> Collection[str]:
        return norms_and_head(self.model, self.key)

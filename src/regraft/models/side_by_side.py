"""Several classifiers as one: a head reads the features of all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regraft.core.errors import RegraftError
from regraft.models.classifier import Classifier


class SideBySide(nn.Module):
    """The features of all members, end to end, and a head over them."""

    def __init__(self, bodies: Sequence[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.bodies, self.head = nn.ModuleList(bodies), head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cat([body(x) for body in self.bodies], -1))
        return logits


@torch.no_grad()
def side_by_side(members: Sequence[Classifier]) -> Classifier:
    """A classifier whose features are those of all members, which stay as they are.

    Its head begins with theirs: the logits are the mean of the members' logits.

    Raises RegraftError for members without a head, of different classes, or whose head is not their last layer.
    """
    if len({member.head.out_features for member in members}) != 1:
        sizes = [member.head.out_features for member in members]
        raise RegraftError(f"side by side: the members have {sizes} classes; give some, of the same classes")
    weights = torch.cat([member.head.weight for member in members], 1) / len(members)
    head = nn.Linear(weights.shape[1], weights.shape[0]).to(weights)
    head.weight.copy_(weights)
    biases: list[Tensor] = [member.head.bias for member in members if member.head.bias is not None]
    head.bias.copy_(torch.stack(biases).sum(0) / len(members) if biases else torch.zeros_like(head.bias))
    return Classifier(SideBySide([_body(member) for member in members], head), head="head")


def _body(member: Classifier) -> nn.Module:
    """The network under the head."""
    assert member.head_name is not None, "its head was asked for before"
    body = member.copy().module.train(member.module.training).requires_grad_(True)
    body.set_submodule(member.head_name, nn.Identity())  # the head goes, and what was hooked to it
    return body

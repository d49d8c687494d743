"""Gaussians with independent coordinates, a row each, and mixtures of them.

KL(q | p) = sum_k log(sigma'_k / sigma_k) + (sigma_k² + (mu_k - mu'_k)²) / 2 sigma'_k² - 1/2
W_2(q, p)² = |mu - mu'|² + |sigma - sigma'|²
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Gaussians(NamedTuple):
    """`mu`, `sigma` [members, n]."""

    mu: Tensor
    sigma: Tensor


def divergence(mu: Tensor, log_sigma: Tensor, prior_mu: Tensor, prior_sigma: Tensor) -> Tensor:
    """KL(q | p) in nats, summed over all coordinates."""
    ratio = log_sigma - prior_sigma.log()
    apart = (mu - prior_mu) / prior_sigma
    return ((2 * ratio).exp() + apart.square() - 1).sum() / 2 - ratio.sum()


def distance(one: Gaussians, others: Gaussians) -> Tensor:
    """W_2 between a single one, [n], and each of `others`, [others]."""
    return ((one.mu - others.mu).square().sum(1) + (one.sigma - others.sigma).square().sum(1)).sqrt()


def log_density(theta: Tensor, mixture: Gaussians, weights: Tensor) -> Tensor:
    """Of each point [points, n] under the mixture, [points]."""
    each = [
        share.log() - ((theta - mu) / sigma).square().sum(1) / 2 - sigma.log().sum()
        for mu, sigma, share in zip(*mixture, weights, strict=True)
    ]
    return torch.stack(each).logsumexp(0) - theta.shape[1] * math.log(2 * math.pi) / 2


def drawn(count: int, mixture: Gaussians, weights: Tensor, dice: torch.Generator) -> Tensor:
    """Points of the mixture, [count, n]."""
    which = torch.multinomial(weights, count, replacement=True, generator=dice)
    mu, sigma = mixture.mu[which], mixture.sigma[which]
    return mu + sigma * torch.randn(mu.shape, generator=dice, dtype=mu.dtype)

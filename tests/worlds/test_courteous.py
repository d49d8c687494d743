"""Pairs of which the more courteous answer is preferred, as many ranked wrongly as it says."""

from __future__ import annotations

import torch

from regraft.numerics.token_loss import log_probs_of
from regraft.worlds import courteous, proxies


def test_pairs_are_of_more_and_less_courteous_answers() -> None:
    rows = courteous.pairs(20, 0)
    assert rows.count == 20
    assert (rows["c"] > 0).tolist() == [True] * 6 + [False] * 14
    courtesies = []
    for targets, side in zip(rows["targets"], rows["side"], strict=True):
        said = [proxies.tokenizer().decode(targets[side == s], skip_special_tokens=True).split() for s in (1, -1)]
        courtesies.append([sum(word in proxies.COURTEOUS for word in words) for words in said])
    assert all(preferred > other for preferred, other in courtesies)
    log_pi = log_probs_of(proxies.base(0), rows).double()
    assert torch.allclose((log_pi * -rows["side"]).sum(1), rows["c"], atol=1e-4)

"""Epochs over the tenth that reads most like trusted text, against one pass over all of a noisy corpus."""

from __future__ import annotations

import torch

from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.engine.evaluate import mean_nll
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.schedules.rewarm import rewarm
from regraft.parts.transforms.ngram_quality import ngram_quality
from regraft.worlds import facts, stream
from regraft.worlds.offline import context

STEPS = facts.DOCUMENTS // stream.BATCH


def trained_on(choose: str, keep: float = 1.0) -> Arm:
    def arm(meter: Meter, seed: int) -> dict[str, float]:
        model, domain = stream.base(seed), facts.domain(seed)
        rows = chosen(domain, choose, keep, seed)
        plan = Plan((Feed("new", shuffled()),), (Weighted(nll()),), lr=rewarm())
        stream.train(model, meter, seed, plan, {"new": facts.blocks(rows)}, steps=STEPS)
        return {
            "loss on trusted text": mean_nll(model, facts.blocks(domain.held)),
            "recall": facts.recall(model, domain.questions),
        }

    return arm


def chosen(domain: facts.Domain, choose: str, keep: float, seed: int) -> Rows:
    if choose == "quality":
        return ngram_quality(keep=keep)(domain.corpus, context(data={"trusted": domain.trusted}))
    order = torch.randperm(domain.corpus.count, generator=torch.Generator().manual_seed(seed))
    return domain.corpus.take(order[: round(keep * len(order))].sort().values)


claim = Claim(
    says="at equal tokens, epochs over the kept tenth reach a lower loss on trusted text than one pass over the corpus",
    setting="0.2M-parameter Llama trained on prose, then 3,200 documents of facts, a fifth clean, the others garbled: "
    "200 updates of 16 documents",
    arms={
        "all": trained_on("at random"),
        "best tenth": trained_on("quality", 0.1),
        "random tenth": trained_on("at random", 0.1),
        "best of all": trained_on("quality", 1.0),
    },
    tests=(
        Test("loss on trusted text", "best tenth", "all"),
        Test("loss on trusted text", "best tenth", "random tenth"),
    ),
    null=("best of all", "all"),
)

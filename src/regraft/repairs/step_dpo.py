"""Per-step DPO: from where a wrong answer goes wrong, a right way on is preferred to the step that was taken.

    the first part `warm_up` of the updates:   -log pi(demonstration)
    Q(x, y_1..k) = the mean reward of K ways on from step k,    A_k = Q(x, y_1..k) - Q(x, y_1..k-1)
    c = argmin_k A_k,  of a wrong answer y
    l = -log sigma(beta [ log pi/pi_ref(y_w | x, y_1..c-1) - log pi/pi_ref(y_c | x, y_1..c-1) ])
        + alpha (-log pi(y_w | x, y_1..c-1) / |y_w|)

y_w: a right one among the K ways on from before step c, so the values cost no answers of their own; there is one
wherever A_c < 0. pi_ref, which also writes all answers, is the model after the warm-up. At most `each` wrong answers to
a question, of `samples`. A step ends with a token that holds one of `ends`.

Paper:   "RL on Incorrect Synthetic Data Scales the Efficiency of LLM Math Reasoning by Eight-Fold" Setlur et al. 2024.
         https://arxiv.org/abs/2406.14532
Claim:   from the same questions more of the answers drawn is right than after self-training (RFT), after imitation and
         after DPO on whole answers; a spurious step of the demonstrations grows rarer, where self-training makes it
         more frequent.
Needs:   questions whose answers can be checked and are written in steps; a model that answers some of them rightly,
         or demonstrations.
Differs: values are those of the reference policy; the authors also take its best of several ways on. The likelihood
         is an addition (Pang et al. 2024); they have alpha = 0.
Tags:    preference optimisation, self-training, demonstrations, language model
"""

from __future__ import annotations

import torch

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.core.rows import Rows
from regraft.numerics.answers import pair_blocks
from regraft.numerics.padded import Padded
from regraft.numerics.step_values import Tails, prefixes, tails, valued
from regraft.numerics.steps import Steps, ends_in, steps_of
from regraft.numerics.trying import in_blocks
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.answered import still
from regraft.recipes.repairing import PAIRS, Workshop, repair


@repair
def step_dpo(
    w: Workshop,
    *,
    ends: tuple[str, ...] = ("\n",),
    warm_up: float = 0.3,
    samples: int = 8,
    K: int = 8,
    each: int = 4,
    beta: float = 0.1,
    alpha: float = 0.0,
) -> None:
    if not 0 <= warm_up < 1 or samples < 1 or K < 1 or each < 1:
        raise RegraftError(
            f"step_dpo: warm_up is {warm_up}, samples {samples}, K {K}, each {each}; "
            "the first must be under 1, the others 1 or more"
        )
    if w.lesson.shown is not None:
        w.fit(w.imitated(), round(warm_up * w.left))
    answers = w.tried(copies=samples)
    wrong = answers.rewards < 1
    rows = in_blocks(answers).where((wrong & (wrong.cumsum(1) <= each)).flatten())
    steps = steps_of(rows, ends_in(w.model, ends))

    def gone_on() -> dict[str, object]:
        dice = torch.Generator().manual_seed(w.training.seed)
        asking = w.lesson.asking._replace(copies=K)
        found = tails(w.model, rows, steps, w.lesson.judge, asking, still(w.model, dice), dice)
        return {**found._asdict(), "answers": found.answers._asdict()}

    kept = w.doer.keep({"tails": rows.count, "K": K}, gone_on) if rows else None
    pairs = Rows({}) if kept is None else pairs_of(rows, steps, Tails(**{**kept, "answers": Padded(**kept["answers"])}))
    w.note(f"pairs      {pairs.count} of a right way on and the worst step, of {rows.count} wrong answers")
    if pairs:
        loss = Weighted(direct_preference(beta, nll=alpha), on=(PAIRS,))
        w.fit(Plan((Feed(PAIRS, shuffled(PAIRS)),), (loss,)), data={PAIRS: pairs})


def pairs_of(rows: Rows, steps: Steps, found: Tails) -> Rows:
    """A right way on before the step of least advantage, from where that was taken: one pair for an answer, at most.

    Args:
        rows: wrong answers, as blocks.
    """
    A = valued(rows, steps, found).diff().nan_to_num(nan=torch.inf)
    least, c = A.min(1)
    place = steps.counts.cumsum(0) - steps.counts + c
    right = found.rewards[place] >= 1
    K, own = right.shape[1], prefixes(rows, steps)
    prompts, preferred, other = [], [], []
    for row in ((least < 0) & right.any(1)).nonzero()[:, 0].tolist():
        begun, on = own[row][c[row]], own[row][c[row] + 1]
        way = int(place[row]) * K + int(right[row].int().argmax())
        prompts.append([*rows["prompt_ids"][row], *begun])
        preferred.append(found.answers.ids[way, len(begun) : found.answers.lengths[way]].tolist())
        other.append(on[len(begun) :])
    if not prompts:
        return Rows({})
    pairs = pair_blocks(*(Padded.of(ids) for ids in (prompts, preferred, other)))
    return pairs.having(row=torch.arange(pairs.count))

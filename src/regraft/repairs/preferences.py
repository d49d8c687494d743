"""Direct preference optimisation of the pairs of answers that are at hand, with the likelihood of those preferred.

    l = DPO(y_w, y_l; pi before the first update) + alpha (-log pi(y_w | x) / |y_w|)

alpha = 0 is plain DPO, which may lower the likelihood of both answers.

Paper: "Direct Preference Optimization: Your Language Model is Secretly a Reward Model" Rafailov et al. 2023.
       https://arxiv.org/abs/2305.18290
Paper: "Iterative Reasoning Preference Optimization" Pang et al. 2024. https://arxiv.org/abs/2404.19733
Needs: pairs of answers.
Tags:  preference optimisation, language model
"""

from __future__ import annotations

from regraft.core.errors import RegraftError
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.direct_preference import direct_preference
from regraft.parts.samplers.shuffled import shuffled
from regraft.recipes.repairing import PAIRS, Workshop, repair


@repair
def preferences(w: Workshop, *, beta: float = 0.1, alpha: float = 1.0) -> None:
    loss = direct_preference(beta, nll=alpha)
    if not w.lesson.pairs:
        raise RegraftError("there are no pairs of answers", do="Name them with --preferred, or give another repair")
    w.note(f"pairs      {w.lesson.pairs.count} that were brought")
    w.fit(Plan((Feed(PAIRS, shuffled(PAIRS)),), (Weighted(loss, on=(PAIRS,)),)))

"""Easy to hard: reinforcement on questions in the order in which the model finds them hard, and help where it fails.

    questions: sorted by 1 - pass rate, in K batches; each is sorted anew before it is entered    (ADCL)
    all answers to x fail:  y' ~ pi(. | demonstration, x), if right, is learned as an answer to x  (EGSR)

`tries`: how often a question is asked with the demonstration before it; 0: never. `after`: what stands between.

Paper:   "Learning Like Humans: Advancing LLM Reasoning Capabilities via Adaptive Difficulty Curriculum Learning and
         Expert-Guided Self-Reformulation" Zhang et al. 2025. https://arxiv.org/abs/2505.08364
Needs:   with tries, demonstrations.
Tags:    reinforcement learning, curriculum, demonstrations, language model
"""

from __future__ import annotations

from regraft.core.parts import Transform
from regraft.parts.samplers.adaptive_difficulty import adaptive_difficulty
from regraft.parts.transforms.group_advantage import group_advantage
from regraft.parts.transforms.reformulated import reformulated
from regraft.recipes.repairing import ITEMS, SHOWN, Workshop, repair


@repair
def easy_to_hard(w: Workshop, *, K: int = 4, tries: int = 1, after: str = "\n\n") -> None:
    judge, asking = w.lesson.judge, w.lesson.asking
    order = adaptive_difficulty(judge, asking, ITEMS, K)
    then: list[Transform] = [group_advantage()]
    if tries and w.lesson.shown is not None:
        then.insert(0, reformulated(judge, asking._replace(copies=tries), SHOWN, after=after))
    fitted = w.fit(w.reinforced(order, then=then))
    turned = ", ".join(f"{each:.1%}" for each in fitted.memory["adaptive_difficulty"]["inversions"])
    w.note(f"order      {K} batches; of pairs turned round as each was entered: {turned or 'none'}")

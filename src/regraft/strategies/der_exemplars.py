"""DER++ with the memory of iCaRL, and every row noisy anew whenever it is read.

    loss = CE(new + e) + alpha · MSE(logits of memory + e, as they were without e) + beta · CE(memory + e)
    e ~ N(0, noise²)        memory: as many rows of each class, herded when their task ends, with the answers of then

Three parts that others have one by one. No place of the memory goes to rows that are being learned, those that are kept
lie around their class's mean, and few rows that are read often are not learned by heart. It keeps rows, labels and
logits, as DER++ does, and costs no gradient more.

Paper:   "Dark Experience for General Continual Learning: a Strong, Simple Baseline" Buzzega et al. 2020.
         https://arxiv.org/abs/2004.07211
Paper:   "iCaRL: Incremental Classifier and Representation Learning" Rebuffi et al. 2017. https://arxiv.org/abs/1611.07725
Paper:   "Training with Noise is Equivalent to Tikhonov Regularization" Bishop 1995.
         https://doi.org/10.1162/neco.1995.7.1.108
Tags:    replay, distillation, augmentation, class-incremental
"""

from __future__ import annotations

from regraft.core.parts import Sampler
from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.losses.distil import distil
from regraft.parts.losses.nll import nll
from regraft.parts.samplers.exemplars import exemplars
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.transforms.augment import augment
from regraft.recipes.strategy import Strategy, method


@method(tune={"alpha": (0.1, 0.3, 1.0), "noise": (0.5, 0.2, 0.0)}, null={"beside": 0.0, "noise": 0.0})
def der_exemplars(
    *, memory: int = 200, beside: float = 1.0, alpha: float = 0.3, beta: float = 1.0, noise: float = 0.5
) -> Strategy:
    """`noise`: of inputs whose standard deviation is about 1."""

    def noisy(sampler: Sampler) -> Sampler:
        return view_batch(sampler, V=1, weak=augment(shift=0.0, noise=noise))

    kept = Feed("memory", noisy(exemplars(memory, keep=("logits",))), beside=beside)
    answers = Weighted(distil(of="logits", by="mse"), alpha, on=("memory",))
    labels = (Weighted(nll(), 1.0, on=("new",)), Weighted(nll(), beta, on=("memory",)))
    return Strategy(Plan(feeds=(Feed("new", noisy(shuffled())), kept), losses=(answers,)), labels)

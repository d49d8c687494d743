"""A bag of tricks for classes of a few rows: the first task trains an encoder, later ones add class means to it.

    first task     pre-training without labels (`pretrain`), then labels, contrast (`contrast`), contrast over turned
                   images as classes of their own (`pseudo`), and the pretext of telling turns (`pretext`)
    later tasks    a small subnetwork is tuned towards the new classes' prototypes (`K`)
    any task       answers by the nearest class mean, by cosine; without `prototypes` these are means of the features
                   before the subnetwork is tuned

Prototypes are the corners of a simplex, which the head holds from the start (`prototypes`), else class means. Each
trick has its switch; without any it is the frozen encoder and its class means.

Paper:   "A Bag of Tricks for Few-Shot Class-Incremental Learning" Roy et al. 2024. https://arxiv.org/abs/2403.14392
Claim:   the whole stack is more accurate after the last task than a frozen encoder with class means, and keeps the
         classes of the first task.
Differs: the paper's second version has these six tricks. Its first counts eight, of which we could establish no more
         than these; a larger encoder is a choice of network. Of the six we know the purpose and not the exact losses:
         how they act together, and magnitude as what a subnetwork is chosen by, are ours. The claim is on digits: on
         curves, tried first, frozen means were near 0.9 already, and the tricks added a point or less.
Tags:    few-shot, representation, prototypes, augmentation, exemplar-free, image, class-incremental
"""

from __future__ import annotations

from regraft.core.plan import Feed, Plan, Weighted
from regraft.parts.edits.nearest_mean import nearest_mean
from regraft.parts.edits.simplex import simplex
from regraft.parts.losses.cosine import cosine
from regraft.parts.losses.nll import nll
from regraft.parts.losses.rotation import rotation
from regraft.parts.losses.supcon import supcon
from regraft.parts.samplers.instances import instances
from regraft.parts.samplers.pseudo_classes import pseudo_classes
from regraft.parts.samplers.shuffled import shuffled
from regraft.parts.samplers.view_batch import view_batch
from regraft.parts.trainables.subnet import subnet
from regraft.parts.transforms.augment import augment
from regraft.recipes.strategy import Stage, Strategy, method


@method(tune={"contrast": (0.3, 1.0), "K": (0.1, 0.0)})
def few_shot(
    *,
    contrast: float = 1.0,
    prototypes: bool = True,
    pseudo: float = 1.0,
    K: float = 0.1,
    pretrain: float = 1.0,
    pretext: float = 1.0,
    first: float = 1.0,
    steps: int = 25,
    rate: float = 0.01,
    s: float = 10.0,
    T: float = 0.1,
    shift: float = 1.0,
    noise: float = 0.1,
) -> Strategy:
    """`contrast`, `pseudo`, `pretext`: weights of losses, 0: none; `K`: the part of weights that later tasks move.

    `pretrain`, `first`: how long, as factors on the length of training; `steps`, `rate`: how many updates a later task
    gets, and a factor on their learning rate. `shift`, `noise`: what views of a row differ by.
    """
    view = augment(shift=shift, noise=noise) if shift or noise else None
    drawn, compared, told = shuffled(), supcon(T), rotation()
    new = Feed("new", view_batch(drawn, 2 if contrast else 1, view))
    labels = Weighted(cosine(s) if prototypes else nll(), on=("new",))
    base = Plan((new,), (labels, Weighted(compared, contrast, on=("new",))))
    if pseudo or pretext:
        turned = Feed("turned", view_batch(pseudo_classes(), 2 if pseudo else 1, view), beside=1.0)
        base += Plan((turned,), (Weighted(compared, pseudo, on=("turned",)), Weighted(told, pretext, on=("turned",))))
    base += Plan(trainables=(*((compared,) if contrast or pseudo else ()), *((told,) if pretext else ())))
    alone = Plan((Feed("new", view_batch(instances(drawn), 2, view)),), (Weighted(compared),), trainables=(compared,))
    later = Plan((new,), (Weighted(cosine(s)),), trainables=(subnet(K),)) if K else None

    held = (simplex(),) if prototypes else ()
    tune = (Stage(later, steps=steps, lr=rate, tasks="later"),) if later else ()
    mean = nearest_mean("cosine")
    return Strategy(
        before=(*((Stage(alone, pretrain, tasks="first"),) if pretrain else ()), *held),
        after=(
            Stage(base + Plan(trainables=held), first, tasks="first"),
            *((*tune, mean) if prototypes else (mean, *tune)),
        ),
        epochs=0.0,
    )

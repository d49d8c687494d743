"""The tags that cards may carry, and what they mean: the taxonomies of four surveys in one vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

SURVEYS: Mapping[str, str] = {
    "A Comprehensive Survey of Continual Learning: Theory, Method and Application": "2302.00487",
    "Towards Lifelong Learning of Large Language Models: A Survey": "2406.06391",
    "Continual Learning of Large Language Models: A Comprehensive Survey": "2404.16789",
    "Challenges and Opportunities of Using Transformer-Based Multi-Task Learning in NLP Through ML Lifecycle: "
    "A Survey": "2308.08234",
}
"""Scenarios and families; scenarios and stages of language models, twice; several tasks at once. By arXiv number."""

TAGS: Mapping[str, Mapping[str, str]] = {
    "Scenarios": {
        "class-incremental": "tasks bring classes of their own, and nobody says of which task an input is; on a "
        "strategy: where it was compared, it was more accurate than plain training and forgot at most half as much",
        "task-incremental": "the task of an input is known when it is asked",
        "domain-incremental": "the classes stay, the inputs change",
        "task-free": "needs no boundaries between tasks: learns a stream of which nobody says where a task ends",
        "online": "for rows that come once",
        "few-shot": "for classes of a few rows",
        "long stream": "for classes that come back over hundreds of tasks",
        "concept drift": "for a world that changes under a model that serves",
    },
    "Conditions": {
        "exemplar-free": "keeps no rows of the past",
        "pretrained": "needs, or is made for, a network that was trained before the stream",
        "language model": "for language models; on a strategy: it can learn a stream of texts",
        "image": "for images",
        "any data": "does not look at what rows are",
        "upper bound": "keeps or trains on everything: what others are measured against",
    },
    "Families": {
        "replay": "reads rows of the past again",
        "pseudo-rehearsal": "reads rows that are made up from what was kept of the past",
        "distillation": "holds the outputs where an older model has them",
        "weight regularisation": "holds the weights where they mattered",
        "gradient projection": "turns steps away from what would hurt the past",
        "weight editing": "changes weights without training",
        "weight averaging": "goes on with a mean of weights",
        "meta-learning": "learns so that what comes next hurts less",
        "parameter isolation": "gives each task tensors of its own",
        "mixture of experts": "gives each task a network of its own, and finds which to ask",
        "hypernetworks": "makes the weights by a network",
        "prompts": "learns inputs for a network that stays",
        "low rank": "learns changes of low rank",
        "sparse": "moves few weights",
        "prototypes": "answers by the nearest of kept means",
        "calibration": "makes the outputs of old and new classes comparable",
        "representation": "asks more of the features",
        "augmentation": "shows rows in several views",
        "variational": "keeps a distribution over weights",
        "composable": "makes changes that add up",
    },
    "Stages of a language model": {
        "continual pre-training": "text goes on being read",
        "continual fine-tuning": "tasks or instructions come one after the other",
        "preference optimisation": "learns which of two answers is better",
        "reinforcement learning": "learns from rewards for what it wrote itself",
        "demonstrations": "learns from answers that it is shown",
        "self-training": "learns from those of its own answers that are right",
    },
    "Training": {
        "learning rate": "sets the learning rate in time",
        "sampling": "says what is read how often",
        "data selection": "says what is read at all",
        "curriculum": "says what is read when, by how it goes",
        "loss weighting": "says what counts how much",
        "imbalance": "for sources or classes of different size",
    },
    "Measures": {
        "forgetting": "measures what was lost",
        "transfer": "measures what one task does for another",
        "diagnostic": "tells why",
        "forecast": "tells beforehand",
    },
}
MEANING: Mapping[str, str] = {tag: says for group in TAGS.values() for tag, says in group.items()}

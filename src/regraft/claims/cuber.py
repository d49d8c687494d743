"""Steps that may change earlier answers for the better, over digits that are turned a little further each time."""

from __future__ import annotations

from functools import partial

import torch
from scipy.ndimage import rotate
from torch import Tensor

from regraft.core.plan import Plan
from regraft.data.scenario import Scenario, domains
from regraft.engine.bits import one_thread
from regraft.engine.training import Training
from regraft.evidence.claims import Arm, Claim, Meter, Test
from regraft.parts.gradients.cuber import cuber
from regraft.parts.gradients.gpm import gpm
from regraft.parts.losses.nll import nll
from regraft.recipes.strategy import Strategy, live
from regraft.worlds.splits import BATCH, HIDDEN, LR, TASKS, lived
from regraft.worlds.tables import data_set, perceptron

ENERGY, HOLD, DEGREES, EPOCHS = 0.96, 0.1, 10.0, 10


def turned(x: Tensor, angle: float) -> Tensor:
    """Images of 8 x 8, as 64 numbers each."""
    images = x.view(-1, 8, 8).numpy()
    return torch.from_numpy(rotate(images, angle, axes=(1, 2), reshape=False, order=1)).flatten(1)


def related(seed: int) -> Scenario:
    rows = data_set("digits", seed)
    return domains(rows.train, rows.held, [partial(turned, angle=DEGREES * i) for i in range(TASKS)], name="turned")


def arm(*projected: gpm | cuber) -> Arm:
    strategy = Strategy(Plan(gradients=projected))

    def scores(meter: Meter, seed: int) -> dict[str, float]:
        training = Training(1, BATCH, LR, optimizer="SGD", clip=None, seed=seed, explode=1e9)
        model, stream = perceptron(64, *HIDDEN, 10, seed=seed), related(seed)
        with one_thread():
            found = live(model, stream, strategy, training, epochs=EPOCHS, meter=meter).measures()
        unrelated = lived(strategy, meter, seed, "inputs", epochs=EPOCHS)
        return {
            "accuracy, related": found["average"],
            "backward transfer, related": found["backward_transfer"],
            "forgetting, unrelated": unrelated["forgetting"],
        }

    return scores


claim = Claim(
    says="on related tasks earlier ones profit more from later ones than by GPM, and it is more accurate; on unrelated "
    "tasks it forgets at most half of what plain training forgets",
    setting="digits turned by 0 to 40 degrees (related), or in 5 orders of their pixels (unrelated), one head; "
    "perceptron 64-256-256-10, SGD, 10 epochs of 32 rows a batch; energy and lambda chosen on other seeds",
    arms={"naive": arm(), "GPM": arm(gpm(ENERGY)), "CUBER": arm(cuber(nll(), ENERGY, hold=HOLD))},
    tests=(
        Test("backward transfer, related", "CUBER", "GPM", lower_is_better=False),
        Test("accuracy, related", "CUBER", "GPM", lower_is_better=False),
        Test("forgetting, unrelated", "CUBER", "naive", relative=0.5),
    ),
    budget="updates",
    seeds=(0, 1, 2, 3, 4),
    calibrated_on=(100, 101, 102),
)

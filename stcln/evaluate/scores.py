"""How well predicted classes agree with true ones."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCohenKappa,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from stcln.data.tile import VOID

DIGITS = 6  # float32 has no more


def rounded(score: float | Tensor) -> float:
    """A score as it is written."""
    return round(float(score), DIGITS)


class Scores:
    """Agreement over the pixels whose truth is neither void nor an ignored class.

    A pixel of a real class that is predicted as an ignored one is wrong; `drop=True` leaves it out, as published.

    Attributes:
        support: Pixels of the test set by class, int64 [K], whatever was predicted; 0 for ignored classes.
        pixels: How many were counted: all of `support`, or fewer with `drop`.
    """

    def __init__(self, classes: Sequence[str], ignore: Sequence[int], *, drop: bool = False) -> None:
        self.classes, self.ignore, self.drop = classes, torch.tensor(ignore, dtype=torch.long), drop
        self.support = np.zeros(len(classes), np.int64)
        self.pixels = 0
        given: dict[str, Any] = {"num_classes": len(classes), "validate_args": False}
        self.metrics = MetricCollection(
            {
                "oa": MulticlassAccuracy(average="micro", **given),
                "precision": MulticlassPrecision(average="none", **given),
                "recall": MulticlassRecall(average="none", **given),
                "f1": MulticlassF1Score(average="none", **given),
                "iou": MulticlassJaccardIndex(average="none", **given),
                "kappa": MulticlassCohenKappa(**given),
                "confusion": MulticlassConfusionMatrix(**given),
            }
        )

    def add(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Count a tile: class indices [H,W]; 255 = void in truth."""
        true, predicted = (torch.from_numpy(array.astype(np.int64)).flatten() for array in (truth, prediction))
        counted = (true != VOID) & ~torch.isin(true, self.ignore)
        self.support += np.bincount(true[counted].numpy(), minlength=len(self.classes))
        if self.drop:
            counted &= ~torch.isin(predicted, self.ignore)
        if counted.any():
            self.pixels += int(counted.sum())
            self.metrics.update(predicted[counted], true[counted])

    def share(self, names: Iterable[str]) -> float:
        """Share of the test set's pixels whose class is among these."""
        wanted = set(names)
        return float(self.support[[name in wanted for name in self.classes]].sum() / self.support.sum())

    def majority(self) -> float:
        """Overall accuracy of the best constant answer: of saying the test set's commonest class everywhere."""
        return float(self.support.max() / self.support.sum())

    def result(self) -> dict[str, Any]:
        """Scores: oa, miou, mf1, kappa, per_class (precision, recall, f1, iou, support), confusion[truth][predicted].

        Means over classes are over those that the test set's truth holds, so they are the same classes for every
        model; a class that is only predicted costs those that it was mistaken for. All are 0 where no pixel was
        counted, and kappa where truth and prediction are one and the same class.
        """
        K = len(self.classes)
        if not self.pixels:
            empty = [[0] * K for _ in range(K)]
            return {"oa": 0.0, "miou": 0.0, "mf1": 0.0, "kappa": 0.0, "per_class": {}, "confusion": empty}
        found: dict[str, Tensor] = self.metrics.compute()
        held = np.flatnonzero(self.support).tolist()
        each = {name: found[name] for name in ("precision", "recall", "f1", "iou")}
        return {
            "oa": rounded(found["oa"]),
            "miou": rounded(found["iou"][held].mean()),
            "mf1": rounded(found["f1"][held].mean()),
            "kappa": rounded(found["kappa"].nan_to_num()),
            "per_class": {
                self.classes[k]: {**{name: rounded(v[k]) for name, v in each.items()}, "support": int(self.support[k])}
                for k in held
            },
            "confusion": found["confusion"].long().tolist(),
        }

    def published(self) -> dict[str, float]:
        """As the paper's code averages: oa, miou, mf1 over the classes that occur in truth or in prediction."""
        if not self.pixels:
            return {"oa": 0.0, "miou": 0.0, "mf1": 0.0}
        found: dict[str, Tensor] = self.metrics.compute()
        occurs = found["confusion"].sum(0) + found["confusion"].sum(1) > 0
        occurs[self.ignore] = False
        means = {"miou": rounded(found["iou"][occurs].mean()), "mf1": rounded(found["f1"][occurs].mean())}
        return {"oa": rounded(found["oa"]), **means}

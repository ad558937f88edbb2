"""How well predicted classes agree with true ones."""

from collections.abc import Sequence
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

    A pixel of a real class that is predicted as an ignored one is wrong; `parity=True` drops it, as published.
    Means over classes are over those that occur in truth or in prediction, without the ignored ones.

    Attributes:
        pixels: How many were counted.
    """

    def __init__(self, classes: Sequence[str], ignore: Sequence[int], *, parity: bool = False) -> None:
        self.classes, self.ignore, self.parity = classes, torch.tensor(ignore, dtype=torch.long), parity
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
        if self.parity:
            counted &= ~torch.isin(predicted, self.ignore)
        if counted.any():
            self.pixels += int(counted.sum())
            self.metrics.update(predicted[counted], true[counted])

    def result(self) -> dict[str, Any]:
        """Scores: oa, miou, mf1, kappa, per_class (precision, recall, f1, iou, support), confusion[truth][predicted].

        All are 0 where no pixel was counted, and kappa where truth and prediction are one and the same class.
        """
        K = len(self.classes)
        if not self.pixels:
            empty = [[0] * K for _ in range(K)]
            return {"oa": 0.0, "miou": 0.0, "mf1": 0.0, "kappa": 0.0, "per_class": {}, "confusion": empty}
        found: dict[str, Tensor] = self.metrics.compute()
        confusion = found["confusion"].long()
        support = confusion.sum(1)
        occurs = support + confusion.sum(0) > 0
        occurs[self.ignore] = False
        each = {name: found[name] for name in ("precision", "recall", "f1", "iou")}
        return {
            "oa": rounded(found["oa"]),
            "miou": rounded(found["iou"][occurs].mean()),
            "mf1": rounded(found["f1"][occurs].mean()),
            "kappa": rounded(found["kappa"].nan_to_num()),
            "per_class": {
                self.classes[k]: {**{name: rounded(v[k]) for name, v in each.items()}, "support": int(support[k])}
                for k in occurs.nonzero().flatten().tolist()
            },
            "confusion": confusion.tolist(),
        }

"""How far an encoder's features separate classes before any fine-tuning: a linear probe, a JSON line an encoder.

    python benchmarks/probe.py WORKSPACE [VARIANT ...]

WORKSPACE is one in which `python -m stcln ablate` has run the variants (`base` if none is named). Of each of their
encoders the maximum over time, which is what the classification head reads, is given to a ridge regression on all
labelled training pixels of the season trained on, and tested on the test tiles of every season. Beside it stand the
same of an encoder of random weights, whose BatchNorm has seen the training tiles, and of the reflectance series itself.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stcln.data.samples import read_series
from stcln.data.series import Series, drawable
from stcln.data.splits import RoleName, select
from stcln.data.store import SeasonStore
from stcln.data.tile import VOID
from stcln.evaluate.scores import Scores
from stcln.events import Silent
from stcln.model.checkpoint import Card, load_encoder
from stcln.model.compute import pick
from stcln.model.encoder import Encoder
from stcln.model.network import Config
from stcln.model.windows import normalise
from stcln.workspace import Workspace

RIDGE = 1.0  # of standardised features
Features = Callable[[Series], NDArray[np.float32]]


def peaks(encoder: Encoder, card: Card, place: Workspace) -> Features:
    """Series -> [pixels, D]: the encoder's temporal features, their maximum over the dates seen."""

    def features(series: Series) -> NDArray[np.float32]:
        images = normalise(torch.from_numpy(series.reflectance), card.mean, card.std)[None]
        positions = torch.from_numpy(series.positions(place.study.method))[None]
        with torch.inference_mode():
            temporal, _ = encoder(images, positions, torch.from_numpy(series.valid)[None])
        found: NDArray[np.float32] = temporal[0].amax(dim=2).flatten(0, 1).numpy()
        return found

    return features


def untrained(card: Card, tiles: list[Series], seed: int, place: Workspace) -> Features:
    """The features of an encoder of random weights; BatchNorm takes its statistics from the tiles."""
    torch.manual_seed(seed)
    encoder = Config.of(card.size, len(card.bands)).encoder()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what it sees
    encoder.train()
    for series in tiles:
        images = normalise(torch.from_numpy(series.reflectance), card.mean, card.std)[None]
        with torch.no_grad():
            encoder(
                images,
                torch.from_numpy(series.positions(place.study.method))[None],
                torch.from_numpy(series.valid)[None],
            )
    return peaks(encoder.eval(), card, place)


def reflectance(series: Series) -> NDArray[np.float32]:
    """Series -> [pixels, T x C]."""
    seen = np.where(series.valid[:, None], series.reflectance, 0).astype(np.float32)
    return np.moveaxis(seen.reshape(-1, *seen.shape[2:]), 0, -1).reshape(-1, seen.shape[0] * seen.shape[1])


def probe(
    features: Features, training: list[Series], tests: dict[str, list[Series]], store: SeasonStore
) -> dict[str, dict[str, float]]:
    """Fit on the training tiles; OA and mIoU by season tested."""
    x = np.concatenate([features(series) for series in training]).astype(np.float64)
    y = np.concatenate([series.labels.ravel() for series in training])
    known = (y != VOID) & ~np.isin(y, store.ignore)
    mean, std = x[known].mean(0), x[known].std(0) + 1e-6
    z = np.c_[(x[known] - mean) / std, np.ones(known.sum())]
    classes, which = np.unique(y[known], return_inverse=True)
    target = np.eye(len(classes))[which]
    weights = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ target)
    found = {}
    for season, tiles in tests.items():
        scores = Scores(store.classes, store.ignore)
        for series in tiles:
            z = (features(series) - mean) / std
            answer = classes[(np.c_[z, np.ones(len(z))] @ weights).argmax(1)]
            scores.add(series.labels, answer.reshape(series.labels.shape))
        result = scores.result()
        found[season] = {"oa": result["oa"], "miou": result["miou"]}
    return found


def read(place: Workspace, store: SeasonStore, role: RoleName) -> list[Series]:
    """The windows of a role at the even dates of the length."""
    assert place.study.ablation is not None
    rule = place.study.lengths[place.study.ablation.length]
    fixed = rule.model_copy(update={"choose": "even"})
    return [
        read_series(store, one, drawable(fixed)[0], place.study.method)
        for one in select(store, place.study, role, Silent())
    ]


def main(root: Path, variants: list[str]) -> Iterator[dict[str, object]]:
    """A record for every encoder of the variants, and one for reflectance."""
    place = Workspace(root)
    pick(place.study.compute)
    assert place.study.ablation is not None
    stores = {name: SeasonStore.open(place.season(name)) for name in place.study.cells.season}
    tests = {name: read(place, store, "test") for name, store in stores.items()}
    for season in place.study.ablation.season:
        store, training = stores[season], read(place, stores[season], "train")
        yield {"features": "reflectance", "trained": season, **probe(reflectance, training, tests, store)}
        for variant in variants:
            for home in sorted((root / f".stcln/ablation/runs/{variant}").glob("seed-*/trained/models/pretrained")):
                encoder, card = load_encoder(home)
                named = {"variant": variant, "seed": card.seed, "trained": season}
                yield {"features": "pretrained", **named, **probe(peaks(encoder, card, place), training, tests, store)}
                random = untrained(card, training, card.seed, place)
                yield {"features": "random", **named, **probe(random, training, tests, store)}


if __name__ == "__main__":
    for record in main(Path(sys.argv[1]).resolve(), sys.argv[2:] or ["base"]):
        print(json.dumps(record), flush=True)

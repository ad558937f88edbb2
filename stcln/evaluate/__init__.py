"""Evaluation of a cell: its models on the whole test tiles of its own season and of every other one."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.ahead import ahead
from stcln.data.samples import read_series
from stcln.data.series import Series, drawable, statistics
from stcln.data.splits import Selection, check_disjoint, select
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.evaluate.maps import tile_maps
from stcln.evaluate.scores import Scores, rounded
from stcln.evaluate.spent import Spent
from stcln.events import Reporter, Value
from stcln.model.checkpoint import REMEDY, Card, load_classifier
from stcln.model.compute import Device, pick
from stcln.model.cost import parameters
from stcln.model.network import STCLN
from stcln.model.windows import Predictor, predict_tile
from stcln.stages import evaluate_stage, write_lineage
from stcln.storage import read_json, whole_directory, write_json
from stcln.study import Length, Method
from stcln.workspace import Workspace

MAPS = 3  # tiles of a season


@dataclass(frozen=True)
class Model:
    """A trained seed.

    Attributes:
        network: In evaluation mode, on the device; or a function that stands in for it.
        card: What it must be fed.
        history: Of its training.
    """

    network: STCLN | Predictor
    card: Card
    history: dict[str, Any]

    @property
    def method(self) -> Method:
        """The switches it was trained with."""
        return Method.model_validate(self.card.method)

    @property
    def length(self) -> Length:
        """The rule on dates it was trained with."""
        return Length.model_validate(self.card.length)

    def see(self, series: Series, tile: int) -> Series:
        """What it looks at of a tile that has every date that may be drawn; the tile's index seeds draws."""
        redrawn = self.method.dates == "redrawn"
        return series.cut(self.length, np.random.default_rng((self.card.seed, tile)) if redrawn else None)

    def predict(self, seen: Series, device: Device) -> NDArray[np.float32]:
        """Probabilities [K,H,W] of a tile."""
        positions = replace(seen, start=self.card.start(seen.season)).positions(self.method)
        return predict_tile(self.network, self.card, seen.reflectance, seen.valid, positions, device)


def evaluate(workspace: Workspace, season: str, length: str, arm: str, reporter: Reporter) -> dict[str, Value]:
    """Score a cell's models into `reports/cells/<season>/<length>/<arm>/`: scores.json and maps.npz.

    Beside a season's scores stand `majority_oa`, the accuracy of the best constant answer, and `trained_share`, the
    share of the scored pixels whose class has a training label of that model: no model can score more than that.
    `cost` counts what one of the models takes; see `Spent`.

    A test series is cut by the length's rule, random ones evenly (`dates: redrawn`: at random, seeded). Clouds exclude
    no pixel from the scores. With `statistics: split` a season's test tiles are normalised with their own statistics.

    Another season of which no test pixel has a scored class is left out.

    Raises:
        BadInput: The cell is not in the study, a model or a store is missing, they do not fit each other, or no test
            pixel of the cell's own season has a scored class.
    """
    study, keys = workspace.study, {"season": season, "length": length, "arm": arm}
    study.check_cell(**keys)
    device = pick(study.compute)
    models = _models(workspace.finetuned(**keys), device)
    stores = [SeasonStore.open(workspace.season(name)) for name in study.cells.season]
    check_disjoint(study, stores)
    parts = [(store, select(store, study, "test", reporter)) for store in stores]
    total, done = sum(len(selections) for _, selections in parts), 0
    tests: list[dict[str, Any]] = [{} for _ in models]
    maps: dict[str, NDArray[np.uint8]] = {}
    spent = Spent()
    for store, selections in parts:
        trial = _Trial(store, selections, _scaled(models, store, selections), device, spent)
        drawn: dict[str, NDArray[np.uint8]] = {}
        for found in trial.run():
            drawn |= found
            done += 1
            reporter.progress("tile", done, total)
        if store.season != season and not trial.labelled:  # of a season under way labels come late
            reporter.note(f"season {store.season} has no test pixel of a scored class yet: not tested on it")
            continue
        maps |= drawn
        for index, result in enumerate(trial.results()):
            tests[index][store.season] = result
    with whole_directory(workspace.cell(**keys)) as part:
        scores = {
            **keys, "simulated": stores[0].simulated, "classes": list(stores[0].classes),
            "selection": models[0].history["selection"],
            "cost": {"parameters": parameters(models[0].card.network()), **spent.counts()},
            "seeds": [_seed(*pair) for pair in zip(models, tests, strict=True)],
        }  # fmt: skip
        write_json(part / "scores.json", scores)
        np.savez_compressed(part / "maps.npz", allow_pickle=False, **maps)
        write_lineage(part, workspace, evaluate_stage(study, arm), **keys)
    return _summary(tests, season) | spent.seconds(len(models))


def score(model: Model, workspace: Workspace, seasons: Sequence[str], reporter: Reporter) -> dict[str, dict[str, Any]]:
    """A model, such as a served one, on the study's test tiles of some seasons: by season, what `evaluate` writes.

    Raises:
        BadInput: A store is missing or does not fit the model, or no test pixel has a class.
    """
    study, results = workspace.study, {}
    for season in seasons:
        store = SeasonStore.open(workspace.season(season))
        selections = select(store, study, "test", reporter)
        trial = _Trial(store, selections, _scaled([model], store, selections), pick(study.compute), Spent())
        for done, _ in enumerate(trial.run(), 1):
            reporter.progress(f"tile of {season}", done, len(selections))
        (results[season],) = trial.results()
    return results


class _Trial:
    """A cell's models on the test tiles of one season; what that takes is added to `spent`."""

    def __init__(
        self, store: SeasonStore, selections: list[Selection], models: list[Model], device: Device, spent: Spent
    ) -> None:
        self.store, self.selections, self.models, self.device, self.spent = store, selections, models, device, spent
        names, drop = (store.classes, store.ignore), models[0].method.excluded == "truth-and-predicted"
        self.scores = [(Scores(*names, drop=drop), Scores(*names, drop=True)) for _ in models]

    def run(self) -> Iterator[dict[str, NDArray[np.uint8]]]:
        """Predict and count; gives every tile's maps by the first model, or none after the first tiles."""
        for number, (selection, series) in enumerate(_read(self.store, self.selections, self.models[0])):
            maps = {}
            for index, model in enumerate(self.models):
                seen = model.see(series, selection.tile)
                with self.spent.clock():
                    probabilities = model.predict(seen, self.device)
                prediction = probabilities.argmax(0).astype(np.uint8)
                for scores in self.scores[index]:
                    scores.add(series.labels, prediction)
                if index == 0:
                    self.spent.add(model.card, self.store, selection.tile, seen)
                if index == 0 and number < MAPS:
                    maps = tile_maps(series, self.store.bands, probabilities)
            yield maps

    @property
    def labelled(self) -> bool:
        """Whether any pixel was scored."""
        return bool(self.scores[0][0].support.any())

    def results(self) -> list[dict[str, Any]]:
        """Scores of each model."""
        results = []
        for model, (main, parity) in zip(self.models, self.scores, strict=True):
            if not self.labelled:
                where = f"season {self.store.season}, splits.test"
                raise BadInput(where, "no pixel of a scored class", "choose other test tiles, or check dataset.ignore")
            results.append(
                main.result()
                | {"parity": parity.published(), "majority_oa": rounded(main.majority())}
                | {"trained_share": rounded(main.share(model.history["labelled"]))}
            )
        return results


def _models(directory: Path, device: Device) -> list[Model]:
    """The cell's models, by seed."""
    homes = sorted(directory.glob("seed-*"), key=lambda home: int(home.name.removeprefix("seed-")))
    if not homes:
        raise BadInput(directory, "no model here", "run `python -m stcln finetune` for this cell")
    return [Model(*load_classifier(home, device.device), _history(home / "history.json")) for home in homes]


def _history(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if absent := {"best_epoch", "epochs", "labelled", "selection"} - set(found):
        raise BadInput(path, f"no history of training: it lacks {', '.join(sorted(absent))}", REMEDY)
    return dict(found)


def _read(store: SeasonStore, selections: list[Selection], model: Model) -> Iterator[tuple[Selection, Series]]:
    """The windows, one read while the one before it is predicted."""
    rule = drawable(model.length)[0]
    jobs = (partial(read_series, store, selection, rule, model.method) for selection in selections)
    with closing(ahead(jobs, threads=1)) as read:
        yield from zip(selections, read, strict=True)


def _scaled(models: list[Model], store: SeasonStore, selections: list[Selection]) -> list[Model]:
    """The models as they meet a season; refuses one that does not fit."""
    card = models[0].card
    for field, found in (("bands", store.bands), ("classes", store.classes)):
        if getattr(card, field) != found:
            raise BadInput(
                f"season {store.season}", f"its {field} {list(found)} are not the model's {list(getattr(card, field))}",
                f"name them in dataset.{field} and prepare all seasons again",
            )  # fmt: skip
    if models[0].method.statistics == "training":
        return models
    mean, std = statistics(series for _, series in _read(store, selections, models[0]))
    scale = {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
    return [Model(model.network, model.card.model_copy(update=scale), model.history) for model in models]


def _seed(model: Model, tests: dict[str, Any]) -> dict[str, Any]:
    best = model.history["best_epoch"]
    validation = model.history["epochs"][best - 1]["validation"]
    return {"seed": model.card.seed, "best_epoch": best, "validation": validation, "tests": tests}


def _summary(tests: list[dict[str, Any]], season: str) -> dict[str, Value]:
    """Means over seeds: of the own season plainly, of the others with their name."""
    summary: dict[str, Value] = {}
    for name in sorted(tests[0], key=lambda name: (name != season, name)):
        for metric in ("oa", "miou", "mf1", "kappa", "majority_oa"):
            key = metric if name == season else f"{metric}_{name}"
            summary[key] = float(np.mean([test[name][metric] for test in tests]))
    return summary

"""How far the windows of a tile should overlap: scores and cost at several overlaps, a JSON line a model and season.

    python benchmarks/overlap.py WORKSPACE [OVERLAP ...]

WORKSPACE is one in which models have been fine-tuned; each predicts the test tiles of every season.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from stcln.data.samples import read_series
from stcln.data.series import drawable
from stcln.data.splits import select
from stcln.data.store import SeasonStore
from stcln.evaluate.scores import Scores
from stcln.events import Silent
from stcln.model.checkpoint import load_classifier
from stcln.model.compute import pick
from stcln.model.windows import cover, predict_tile
from stcln.study import Length
from stcln.workspace import Workspace

OVERLAPS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75)


def main(root: Path, overlaps: tuple[float, ...]) -> Iterator[dict[str, object]]:
    """A record a model, season tested and overlap."""
    place = Workspace(root)
    device = pick(place.study.compute)
    stores = [SeasonStore.open(place.season(name)) for name in place.study.cells.season]
    for home in sorted(root.glob("models/finetuned/*/*/*/seed-*")):
        network, card = load_classifier(home)
        length = Length.model_validate(card.length)
        for store in stores:
            tiles = [
                read_series(store, one, drawable(length)[0], place.study.method).cut(length, None)
                for one in select(store, place.study, "test", Silent())
            ]
            for overlap in overlaps:
                scores, pixels, computed = Scores(store.classes, store.ignore), 0, 0
                for series in tiles:
                    positions = series.positions(place.study.method)
                    seen = series.reflectance, series.valid, positions
                    scores.add(series.labels, predict_tile(network, card, *seen, device, overlap).argmax(0))
                    rows, columns, (height, width) = cover(card, *series.labels.shape, overlap)
                    pixels += series.labels.size
                    computed += len(rows) * len(columns) * height * width
                found = scores.result()
                yield {
                    "model": home.relative_to(root / "models/finetuned").as_posix(), "tested": store.season,
                    "window": card.window, "tile": tiles[0].labels.shape, "overlap": overlap,
                    "computed": round(computed / pixels, 2), "oa": found["oa"], "miou": found["miou"],
                }  # fmt: skip


def share(text: str) -> float:
    """An overlap, in [0, 0.9]: nearer to 1 a window moves by a pixel."""
    if not 0 <= float(text) <= 0.9:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 to 0.9")
    return float(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("overlap", type=share, nargs="*", default=OVERLAPS)
    asked = parser.parse_args()
    for record in main(asked.workspace.resolve(), tuple(asked.overlap)):
        print(json.dumps(record), flush=True)

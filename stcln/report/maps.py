"""Small images: maps beside their truth, and what pre-training hid and rebuilt. The page enlarges them."""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stcln import palette
from stcln.errors import BadInput
from stcln.report.collect import Results
from stcln.report.figures import reconstruction_series, svg

Pixels = NDArray[np.uint8]
UNSEEN = "#ECECEC"
STRETCH = (2, 90)  # percentiles that become black and full colour; clouds may saturate


@dataclass(frozen=True)
class Strip:
    """A row of images of one place, a caption each.

    Attributes:
        title: The place.
        images: Caption and PNG.
        classes: Class indices that are seen in it.
    """

    title: str
    images: Sequence[tuple[str, bytes]]
    classes: frozenset[int]


@dataclass(frozen=True)
class Reconstruction:
    """What pre-training hid of a sample and rebuilt.

    Attributes:
        strips: Original, hidden and rebuilt; a column a date.
        series: SVG of a pixel's NDVI, or empty without red and near infrared.
        hidden: Share of pixels hidden.
        error: Root mean squared error at hidden pixels, reflectance.
        baseline: The same for each pixel's own mean over its shown dates.
    """

    strips: Sequence[Strip]
    series: str
    hidden: float
    error: float
    baseline: float


def png(pixels: Pixels) -> bytes:
    """RGB uint8 [H,W,3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def maps(results: Results) -> list[Strip]:
    """Maps at the longest length: for every tested season tiles kept by the arms trained on another, if any."""
    strips: list[Strip] = []
    for tested in results.study.cells.season:
        others = [s for s in results.study.cells.season if s != tested] or [tested]
        season = next((s for s in others if _archives(results, s)), None)
        archives = _archives(results, season) if season else {}
        strips += [_strip(results, archives, str(season), tested, tile) for tile in _tiles(archives, tested)]
    return strips


def _archives(results: Results, season: str) -> dict[str, Any]:
    found = {}
    for arm in results.study.cells.arm[:4]:
        path = results.root.cell(season, results.longest, arm) / "maps.npz"
        if path.exists():
            found[arm] = _arrays(path)
    return found


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
        raise BadInput(path, f"not a whole .npz file: {error}", "run the step that writes it again") from None


def _tiles(archives: Mapping[str, Any], tested: str) -> list[str]:
    keys: dict[str, Any] = next(iter(archives.values()), {})
    return sorted({key.split("/", 1)[1].rsplit("/", 1)[0] for key in keys if key.split("/", 1)[0] == tested})


def _strip(results: Results, archives: Mapping[str, Any], season: str, tested: str, tile: str) -> Strip:
    at = f"{tested}/{tile}"
    first, last = next(iter(archives.values())), list(archives)[-1]
    truth = first[f"{at}/truth"]
    colours = np.full((256, 3), palette.rgb(UNSEEN), np.uint8)
    for index, colour in enumerate(palette.of_classes(len(results.classes), results.ignore)):
        colours[index] = palette.rgb(colour)
    predicted = {arm: archive[f"{at}/prediction"] for arm, archive in archives.items() if f"{at}/prediction" in archive}
    confidence = np.repeat((archives[last][f"{at}/confidence"] * 2.55).astype(np.uint8)[..., None], 3, 2)
    images = [
        ("true colour", png(first[f"{at}/rgb"])),
        ("truth", png(colours[truth])),
        *((arm, png(colours[labels])) for arm, labels in predicted.items()),
        (f"confidence, {last}", png(confidence)),
    ]
    seen = np.unique(np.concatenate([truth.ravel(), *(labels.ravel() for labels in predicted.values())]))
    return Strip(
        f"{season} → {tested}, tile {tile}", images, frozenset(k for k in seen.tolist() if k < len(results.classes))
    )


def reconstruction(path: Path, bands: Sequence[str], dates: int = 8) -> Reconstruction | None:
    """What pre-training's sample shows at `dates` dates; None if there is no sample.

    Args:
        path: sample.npz: `images`, `reconstruction` [T,C,H,W], `hidden` [T,H,W] true = hidden, `valid`, `dates` [T].
        bands: Band names.
        dates: Largest number of dates to show, those with hidden pixels first.
    """
    if not path.exists():
        return None
    archive = _arrays(path)
    images, rebuilt, hidden, valid, days = (
        archive[name] for name in ("images", "reconstruction", "hidden", "valid", "dates")
    )
    if valid.ndim == 1:
        valid = np.broadcast_to(valid[:, None, None], hidden.shape)
    hidden = hidden.astype(bool) & valid
    shown = valid & ~hidden
    order = np.argsort(-hidden.mean((1, 2)), kind="stable")
    picked = np.sort(order[: max(dates, 1)])
    mean = (images * shown[:, None]).sum(0) / np.maximum(shown.sum(0), 1)
    error, baseline = (_rmse(images, other, hidden) for other in (rebuilt, np.broadcast_to(mean, images.shape)))
    return Reconstruction(
        _dates(images, rebuilt, hidden, valid, days, picked, _composite(bands)),
        _series(images, rebuilt, hidden, valid, days, bands), float(hidden.mean()), error, baseline,
    )  # fmt: skip


def _rmse(images: NDArray[Any], other: NDArray[Any], hidden: NDArray[np.bool_]) -> float:
    squared = ((images - other) ** 2).mean(1)[hidden]
    return float(np.sqrt(squared.mean())) if len(squared) else float("nan")


def _composite(bands: Sequence[str]) -> list[int]:
    """Near infrared, red, green where the bands are known; else the last three."""
    names = [name.replace("B0", "B") for name in bands]
    wanted = ("B8", "B4", "B3")
    return [names.index(name) for name in wanted] if set(wanted) <= set(names) else [*range(len(names))][-3:]


def _dates(
    images: NDArray[Any], rebuilt: NDArray[Any], hidden: NDArray[np.bool_], valid: NDArray[np.bool_],
    days: NDArray[Any], picked: NDArray[np.intp], composite: list[int],
) -> list[Strip]:  # fmt: skip
    known = images[:, composite].transpose(0, 2, 3, 1)
    low, high = np.percentile(known[valid] if valid.any() else known.reshape(-1, known.shape[-1]), STRETCH, axis=0)

    def colour(values: NDArray[Any]) -> Pixels:
        stretched: Pixels = (np.clip((values - low) / np.maximum(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
        return stretched

    original = colour(known)
    masked = np.where(hidden[..., None], np.uint8(128), original)
    again = colour(rebuilt[:, composite].transpose(0, 2, 3, 1))
    rows = (("original", original), ("shown to the network", masked), ("rebuilt", again))
    return [
        Strip(name, [(f"day {int(days[t])}", png(frames[t])) for t in picked], frozenset()) for name, frames in rows
    ]


def _series(
    images: NDArray[Any], rebuilt: NDArray[Any], hidden: NDArray[np.bool_], valid: NDArray[np.bool_],
    days: NDArray[Any], bands: Sequence[str],
) -> str:  # fmt: skip
    names = [name.replace("B0", "B") for name in bands]
    if not {"B4", "B8"} <= set(names):
        return ""
    red, nir = names.index("B4"), names.index("B8")
    score = hidden.sum(0) * 2 + valid.sum(0)  # the pixel that was seen most and hidden most
    y, x = np.unravel_index(int(score.argmax()), score.shape)
    pair = [
        (v[:, nir, y, x] - v[:, red, y, x]) / np.maximum(v[:, nir, y, x] + v[:, red, y, x], 1e-6)
        for v in (images, rebuilt)
    ]
    known = valid[:, y, x]
    return svg(reconstruction_series(days[known], pair[0][known], pair[1][known], hidden[known, y, x]))

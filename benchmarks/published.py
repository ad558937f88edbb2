"""The published loaders, written down as they read, for `load.py` to compare with.

PASTIS: `PASTIS_Dataset` and `pad_collate` of VSainteuf/utae-paps, which the published STCLN imports. A sample is a
whole .npy patch, converted to float32 and normalised; a batch is padded and stacked; crops are then cut out of it.
MTLCC: `ijgiDataset` of TUM-LMF/MTLCC-pytorch. A sample is a GeoTIFF for each of 30 dates drawn at random and each of
three resolutions, the coarse ones repeated to 10 m.
"""

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

SEQUENCE = 30  # dates drawn of an MTLCC tile


def patch(root: Path, name: str, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """A PASTIS patch [T,C,H,W] and its classes [H,W]."""
    data = torch.from_numpy(np.load(root / f"DATA_S2/S2_{name}.npy").astype(np.float32))
    data = (data - mean[None, :, None, None]) / std[None, :, None, None]
    return data, torch.from_numpy(np.load(root / f"ANNOTATIONS/TARGET_{name}.npy")[0].astype(int))


def collated(samples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A batch [B,T,C,H,W] and its classes [B,H,W]."""
    images = [images for images, _ in samples]
    most = max(map(len, images))
    if any(len(one) != most for one in images):
        images = [pad(one, [0, 0, 0, 0, 0, 0, 0, most - len(one)]) for one in images]
    return torch.stack(images), torch.stack([target for _, target in samples])


def tile(root: Path, rng: random.Random) -> tuple[Tensor, Tensor]:
    """An MTLCC tile [T,C,H,W] and its classes [H,W]."""
    label = _read(root / "y.tif")[0].astype(int)
    dates = {name.split("_")[0] for name in os.listdir(root)}  # noqa: PTH208 - as published
    drawn = sorted(rng.sample(sorted(date for date in dates if len(date) == 8), SEQUENCE))
    parts = [torch.from_numpy(np.array([_read(root / f"{d}_{m}m.tif") for d in drawn]) * 1e-4) for m in (10, 20, 60)]
    side = tuple(parts[0].shape[2:4])
    images = torch.cat((parts[0], *(interpolate(part, size=side) for part in parts[1:])), 1)
    return images.float(), torch.from_numpy(label).long()


def _read(path: Path) -> NDArray[np.uint16]:
    with rasterio.open(path) as source:
        found: NDArray[np.uint16] = source.read()
        return found

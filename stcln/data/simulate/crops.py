"""The crops of the simulated region: names, codes in the archives, thermal calendars, rotations.

Thermal times are degree days above `base` since sowing, set so that the calendar is that of Flanders and Bavaria.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Crop:
    """An annual crop.

    Attributes:
        name: As MTLCC spells it.
        mtlcc: Raw class id in MTLCC's classes.txt.
        pastis: Class index in PASTIS.
        broad: Broad leaves held flat, else narrow leaves held upright.
        winter: Sown in the autumn before its season.
        sow: Month and day of the earliest sowing.
        warm: Degree days above 0 since New Year that sowing waits for; winter crops do not wait.
        base: Temperature below which the crop stands still, degrees Celsius.
        leaf: Largest green leaf area index.
        close: Thermal time at half the canopy.
        spread: Width of that rise.
        ripe: Thermal time at which half the canopy is yellow.
        harvest: Thermal time of harvest.
        catch: Share of the fields that carry a catch crop in the winter before a spring sowing.
        bloom: Thermal times between which yellow flowers cover the canopy.
    """

    name: str
    mtlcc: int
    pastis: int
    broad: bool
    winter: bool
    sow: tuple[int, int]
    warm: float
    base: float
    leaf: float
    close: float
    spread: float
    ripe: float
    harvest: float
    catch: float = 0.0
    bloom: tuple[float, float] | None = None


ANNUAL: Final = (
    Crop("winter wheat", 22, 2, False, True, (10, 10), 0, 0, 4.6, 790, 100, 2125, 2600),
    Crop("winter barley", 23, 4, False, True, (9, 28), 0, 0, 4.4, 890, 100, 2060, 2540),
    Crop("winter triticale", 12, 10, False, True, (10, 3), 0, 0, 4.6, 850, 100, 2230, 2680),
    Crop("rape", 5, 5, True, True, (8, 28), 0, 0, 4.0, 1250, 130, 2660, 3080, bloom=(1600, 1900)),
    Crop("summer barley", 25, 6, False, False, (3, 1), 130, 0, 3.6, 620, 90, 1450, 1880, 0.2),
    Crop("maize", 26, 3, False, False, (4, 15), 765, 8, 3.0, 470, 110, 1220, 1310, 0.85),
    Crop("sugar beet", 1, 9, True, False, (3, 15), 250, 3, 3.2, 940, 130, 3600, 2520, 0.35),
    Crop("potatoe", 16, 13, True, False, (4, 5), 410, 4, 3.2, 550, 55, 1560, 2000, 0.3),
)
MEADOW: Final = len(ANNUAL)
WOOD: Final = MEADOW + 1
"""Ground whose use the register does not know: copses and gardens."""

NAMES: Final = (*(crop.name for crop in ANNUAL), "meadow", "unknown")
MTLCC: Final = (*(crop.mtlcc for crop in ANNUAL), 3, 0)
PASTIS: Final = (*(crop.pastis for crop in ANNUAL), 1, 0)

_ROTATIONS: Final = (
    (0.11, ("winter wheat", "winter barley", "rape")),
    (0.16, ("sugar beet", "winter wheat", "winter barley")),
    (0.16, ("potatoe", "winter wheat", "maize", "winter triticale")),
    (0.12, ("maize", "winter wheat", "summer barley")),
    (0.16, ("maize", "maize", "winter wheat")),
    (0.23, ("meadow",)),
    (0.06, ("unknown",)),
)
"""Share of the fields, and the crops that follow one another there."""

ROTATIONS: Final = tuple((share, tuple(NAMES.index(name) for name in names)) for share, names in _ROTATIONS)

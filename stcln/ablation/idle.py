"""Why a variant changes nothing on the data of a study: told in the report, in place of a run that would repeat one."""

from collections.abc import Callable, Mapping, Sequence

from stcln.ablation.bench import PLAIN, Bench
from stcln.data.lengths import choose
from stcln.data.splits import RoleName, select
from stcln.data.store import SeasonStore
from stcln.events import Reporter, Silent
from stcln.model.checkpoint import WEIGHTS
from stcln.storage import digest
from stcln.study import Study
from stcln.workspace import Workspace

PRETRAINING = ("vegetation", "empty_mask")  # switches that only pre-training reads


def why_idle(workspace: Workspace, variant: str, reporter: Reporter) -> str:
    """Why a variant must score exactly as the study itself; empty where it may not.

    That is so where it changes switches of `method` alone, none of which can act. Switches that only pre-training
    reads are tried: it is so if every encoder has the bytes of the study's.
    """
    plain, study, ablation = workspace.study, workspace.study.variant(variant), workspace.study.ablation
    assert ablation is not None
    changed = [name for name, value in study.method if value != getattr(plain.method, name)]
    if not changed or study.model_copy(update={"method": plain.method, "ablation": ablation}) != plain:
        return ""
    if set(changed) <= set(PRETRAINING) and study.cells.pretrained:
        pairs = [
            [Bench.of(workspace, name, run, reporter) for name in (variant, PLAIN)] for run in range(ablation.seeds)
        ]
        same = all(len({digest(bench.encoder() / WEIGHTS) for bench in pair}) == 1 for pair in pairs)
        return f"its {ablation.seeds} encoders are byte for byte those without it" if same else ""
    stores = [SeasonStore.open(workspace.season(name)) for name in study.cells.season]
    reasons = [REASONS[name](study, stores) if name in REASONS else "" for name in changed]
    return "; ".join(reasons) if all(reasons) else ""


def _clouds(study: Study, stores: Sequence[SeasonStore]) -> str:
    whole = all(store.read(tile, None, None)[1].all() for store in stores for tile in range(len(store)))
    return "every pixel of these seasons is valid" * whole


def _padding(study: Study, stores: Sequence[SeasonStore]) -> str:
    pretraining = _dates(study, stores, study.pretrain.length, ("pretrain",), study.pretrain.seasons)
    counts = [of for length in study.cells.length for store in stores
              if (of := _dates(study, [store], length, ("train", "validation"), (store.season,)))]  # fmt: skip
    if len(pretraining) > 1 or any(len(of) > 1 for of in counts):
        return ""
    return "series that share a batch have equal numbers of dates"


def _test_window(study: Study, stores: Sequence[SeasonStore]) -> str:
    fits = all(max(store.size) <= study.finetune.window for store in stores)
    return f"a tile is no larger than the window of {study.finetune.window} pixels" * fits


def _excluded(study: Study, stores: Sequence[SeasonStore]) -> str:
    return "no class is ignored" * (not any(store.ignore for store in stores))


def _dates(
    study: Study, stores: Sequence[SeasonStore], length: str, roles: Sequence[RoleName], seasons: Sequence[str]
) -> set[int]:
    """The numbers of dates that the length leaves of the tiles of some roles."""
    rule = study.lengths[length]
    return {
        len(choose(store.dates(one.tile), rule, store.season))
        for store in stores
        if store.season in seasons
        for role in roles
        for one in select(store, study, role, Silent())
    }


REASONS: Mapping[str, Callable[[Study, Sequence[SeasonStore]], str]] = {
    "clouds": _clouds,
    "padding": _padding,
    "test_window": _test_window,
    "excluded": _excluded,
}

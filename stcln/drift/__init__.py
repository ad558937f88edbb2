"""How far a season lies from those that were trained on, and what that asks for: reuse, fine-tune, or pre-train again.

Advice and nothing more: no other stage reads it, and a decision starts no training.
"""

from typing import Any

from stcln.data.store import SeasonStore
from stcln.drift.decision import decide, distances
from stcln.drift.mix import mix
from stcln.events import Reporter, Value
from stcln.stages import write_lineage
from stcln.storage import read_json, whole_directory, write_json
from stcln.study import Study
from stcln.workspace import Workspace


def drift(workspace: Workspace, season: str, reporter: Reporter) -> dict[str, Value]:
    """Compare a season with the training seasons into `reports/drift/<season>/drift.json`.

    Compared are the pre-trained encoder's error in filling in what is hidden, where the study has arms that start from
    it; NDVI by crop and month, or of all pixels where there is no label yet; and the shares of the crops. Of a season
    under way the others are seen up to the same day.

    Returns:
        decision, reason, and the numbers that it rests on.

    Raises:
        BadInput: A season store or the encoder is missing or broken, or no tile plays `splits.pretrain`.
    """
    from stcln.drift.greenness import curves  # torch comes with both, which Dagster's definitions do without
    from stcln.drift.reconstruction import reconstruct

    study = workspace.study
    names = others(study, season)
    mine, theirs = SeasonStore.open(workspace.season(season)), [SeasonStore.open(workspace.season(n)) for n in names]
    reports = {store.season: read_json(store.path / "validation.json") for store in (mine, *theirs)}
    found: dict[str, dict[str, Any] | None] = {"ndvi": None, "classes": None}
    if theirs:
        found["ndvi"] = curves(mine, theirs, reports, study)
        found["classes"] = mix(reports[season], [reports[name] for name in names], study)
        if study.cells.pretrained:
            found["reconstruction"] = reconstruct(workspace, mine, theirs, reporter)
    decision, reason = decide(season, names, found, study.drift)
    known = {"season": season, "against": names, "last_image": str(mine.last_image), "simulated": mine.simulated}
    with whole_directory(workspace.drift(season)) as part:
        write_json(part / "drift.json", {**known, **found, "decision": decision, "reason": reason})
        write_lineage(part, workspace, "drift", season=season)
    reporter.note(f"season {season}: {reason}")
    return {"decision": decision, "reason": reason, **distances(found)}


def others(study: Study, season: str) -> list[str]:
    """The seasons that one is compared with: those that pre-train, without itself; else all others of the study."""
    trained = [name for name in study.pretrain.seasons if name != season]
    return trained or [name for name in study.cells.season if name != season]

"""The study as Dagster assets: one asset a stage of dvc.yaml, one family an arm, and the checks that gate them.

Two more decide what is served, and are no stages (`assets.champion`).

Thin on purpose: an asset names its stage and shows its output. What a stage does stands in `stcln`; how it is run and
recorded is handed in (`assets.stage`). Nothing here knows DVC, processes or `orchestration`.
"""

import dagster as dg

from assets.ablation import ablation
from assets.challenger_onnx import challenger_onnx
from assets.champion import champion, champion_rollback
from assets.checks import checks
from assets.cross_year_report import cross_year_report
from assets.evaluation import evaluation
from assets.finetuned import finetuned
from assets.plan import Plan
from assets.pretrained_encoder import pretrained_encoder
from assets.raw_archive import raw_archive
from assets.season_drift import season_drift
from assets.season_store import season_store


def assets(plan: Plan) -> list[dg.AssetsDefinition]:
    """All assets of a study, upstream first."""
    families = [build(plan, arm) for build in (finetuned, evaluation) for arm in plan.study.cells.arm]
    return [
        raw_archive(plan),
        season_store(plan),
        pretrained_encoder(plan),
        season_drift(plan),
        *families,
        *([ablation(plan)] if plan.variants else []),
        cross_year_report(plan),
        challenger_onnx(plan),
        champion(plan),
        champion_rollback(plan),
    ]


__all__ = ["Plan", "assets", "checks"]

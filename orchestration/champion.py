"""Decisions about what is served, without the UI: `python -m orchestration.champion promote|rollback --why "..."`.

Both materialise the asset that the UI has, in a run that the UI shows afterwards.
"""

import logging
import sys
import warnings
from typing import Annotated, Any

import dagster as dg
import typer

from assets import Plan
from assets.champion import CHECK
from orchestration.home import make_home, workspace_root
from orchestration.notify import Addresses
from orchestration.resources import Resources, resources
from orchestration.single import Refused, asset_job, execute, reason
from stcln import champion
from stcln.errors import BadInput
from stcln.storage import digest
from stcln.workspace import Workspace

Why = Annotated[str, typer.Option(help="The reason, which is recorded.")]
Who = Annotated[str, typer.Option(help="Who decides.", show_default="whom git or the system names")]

app = typer.Typer(
    name="champion", help="Decide which model is served.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip


@app.command()
def promote(
    why: Why,
    who: Who = "",
    force: Annotated[
        bool, typer.Option("--force", help="Although the comparison speaks against it; its checks hold all the same.")
    ] = False,
) -> None:
    """Let the challenger replace the champion if its checks pass and it is better; exit status 1 if it is refused.

    Example: `python -m orchestration.champion promote --why "the season 2026 is in"`
    """
    said = _alone("champion", why=why, who=who, force=force)
    raise typer.Exit(1 if said.startswith("refused") else 0)


@app.command()
def rollback(
    why: Why,
    who: Who = "",
    to: Annotated[str, typer.Option(help="A version in champions.yaml.", show_default="the one before")] = "",
) -> None:
    """Serve an earlier model again, out of DVC's cache or remote; nothing is trained.

    Example: `python -m orchestration.champion rollback --why "maize is taken for sorghum in the north"`
    """
    _alone("champion_rollback", why=why, who=who, version=to)


def settled(plan: Plan, instance: dg.DagsterInstance, parts: Resources, who: str = "") -> str:
    """What a study ends with: the challenger asks to be served, unless it is; gives the decision in words.

    Args:
        plan: The study.
        instance: Where the run is recorded.
        parts: The resources.
        who: Started the study; empty: whom git or the system names.

    Raises:
        Refused: The run failed, which a challenger that is refused is not.
    """
    place = plan.workspace
    entry = champion.served(place)
    if entry and all(path.is_dir() and digest(path) == entry.version for path in (place.challenger, place.champion)):
        return f"{entry.cell} seed {entry.seed}, version {entry.version[:8]}, is served already"
    return decide(plan, instance, parts, "champion", why=f"the study {plan.study.name} has run", who=who)


def decide(plan: Plan, instance: dg.DagsterInstance, parts: Resources, asset: str, **config: Any) -> str:
    """Materialise `champion` or `champion_rollback` with a configuration; gives the decision in words.

    Raises:
        Refused: The run failed.
    """
    ops = {"ops": {asset: {"config": config}}}
    result = execute(asset_job(plan, parts), instance, dg.AssetKey(asset), ops, None, asset)
    if not result.success:
        raise Refused(f"{asset}: {reason(result)}")
    told = [str(found.description) for found in result.get_asset_check_evaluations() if found.check_name == CHECK]
    made = result.asset_materializations_for_node(asset)
    decisions = [f"{event.metadata['decision'].value}. {event.metadata['revision'].value}" for event in made]
    return (decisions or told)[0].rstrip(". ")


def _alone(asset: str, **config: Any) -> str:
    """Decide in the workspace that STCLN_WORKSPACE names, and print what was decided."""
    plan = Plan(Workspace(workspace_root()))
    parts = resources(plan.workspace.root)
    with dg.DagsterInstance.from_config(str(make_home(plan.workspace.root))) as instance:
        said = decide(plan, instance, parts, asset, **config)
    print(said)
    return said


def main() -> None:
    """Run the command line; what cannot be done ends in its sentence and exit status 2."""
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        app()
    except (BadInput, Refused) as error:
        print(f"champion: {error}", file=sys.stderr)
        Addresses().tell("a decision about the champion failed", str(error), print)
        sys.exit(2)


if __name__ == "__main__":
    main()

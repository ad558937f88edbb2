"""The command line: a table of verbs, each a plain function. What a verb does stands in the module it calls."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from stcln import stages
from stcln.errors import BadInput, refusals_of_the_disk
from stcln.events import Reporter
from stcln.interrupt import Stopped, leave, signals
from stcln.new import make, refresh, studies
from stcln.verbs import LISTENER, Log, Summary, reporter, run, tell, together
from stcln.workspace import Workspace

At = Annotated[Path, typer.Option("--workspace", "-w", help="The study's directory.", show_default="here")]
Logged = Annotated[
    Log, typer.Option("--log", help="Progress as text (a bar on a terminal) or as JSON lines on stderr.")
]
Season = Annotated[str, typer.Option(help="A season of the study, such as 2018.")]
Length = Annotated[str, typer.Option(help="A length of the study, such as d12.")]
VariantName = Annotated[str, typer.Option("--variant", help="A variant of the study's ablation, such as base.")]
ArmName = Annotated[str, typer.Option("--arm", help="An arm of the study, such as pretrained.")]
HERE = Path()

app = typer.Typer(
    name="stcln",
    help="Crop mapping from satellite image time series with few labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def new(
    workspace: Annotated[Path, typer.Argument(help="Directory to make; its parent must exist.")],
    study: Annotated[str, typer.Option(help=f"A ready study ({', '.join(studies())}) or a path.")] = "demo",
    source: Annotated[str | None, typer.Option(help="Where the data are, in place of the study's own source.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Render dvc.yaml and code.yaml again.")] = False,
) -> None:
    """Make a workspace: params.yaml, dvc.yaml, git and DVC set up.

    Example: `python -m stcln new maize-2026 --study flanders --source s3://bucket/cubes`
    """
    if update:
        refresh(workspace)
        typer.echo(f"{workspace.resolve()}: dvc.yaml rendered for this version of stcln and params.yaml")
    else:
        make(workspace, study, source)
        typer.echo(f"{workspace.resolve()}: ready. Commit it, then run `dvc repro` there, or in the checkout of stcln")
        typer.echo(f"    STCLN_WORKSPACE={workspace.resolve()} make ui")


@app.command()
def fetch(
    only: Annotated[
        str | None,
        typer.Option(
            help="A trial on some tiles: `fold=5,limit=20` (so many of each split), `tiles=10000,10001`, or `all` for "
            "no trial. It is written to params.yaml and stays until the next `--only`.",
            show_default="as params.yaml says",
        ),
    ] = None,
    workspace: At = HERE,
    log: Logged = Log.text,
) -> Summary:
    """Bring the archive into data/raw: downloaded, linked or simulated, and verified.

    A trial reads its tiles out of the remote zip, so that it costs megabytes, not the archive.

    Example: `python -m stcln fetch --only fold=5,limit=20`
    """
    return run(workspace, log, "fetch", only)


@app.command()
def prepare(season: Season, workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Turn a season of the archive into a season store and its validation report.

    Example: `python -m stcln prepare --season 2018`
    """
    return run(workspace, log, "prepare", season=season)


@app.command()
def pretrain(workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Pre-train the encoder on unlabelled series by masking.

    Example: `python -m stcln pretrain --log json`
    """
    with together():
        return run(workspace, log, "pretrain")


@app.command()
def drift(season: Season, workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Compare a season with those trained on: reuse their models, fine-tune, or pre-train again.

    Example: `python -m stcln drift --season 2019`
    """
    return run(workspace, log, "drift", season=season)


@app.command()
def finetune(season: Season, length: Length, arm: ArmName, workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Train the models of a cell: one season, length and arm, several seeds.

    Example: `python -m stcln finetune --season 2018 --length d10 --arm pretrained`
    """
    with together():
        stage = stages.finetune_stage(Workspace(workspace).study, arm)
        return run(workspace, log, stage, season=season, length=length, arm=arm)


@app.command()
def evaluate(season: Season, length: Length, arm: ArmName, workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Test a cell's models on their own season and on every other.

    Example: `python -m stcln evaluate --season 2018 --length d10 --arm pretrained`
    """
    stage = stages.evaluate_stage(Workspace(workspace).study, arm)
    return run(workspace, log, stage, season=season, length=length, arm=arm)


@app.command()
def ablate(variant: VariantName, workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Pre-train, fine-tune and test a variant of the study, several seeds; the report compares it with `base`.

    Example: `python -m stcln ablate --variant mask-60`
    """
    return run(workspace, log, "ablate", variant=variant)


@app.command()
def report(workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Write the cross-year report of all cells: HTML, Markdown, JSON and the figure.

    Example: `python -m stcln report`
    """
    return run(workspace, log, "report")


@app.command()
def export(workspace: At = HERE, log: Logged = Log.text) -> Summary:
    """Export the best cell's model to ONNX and compare it with torch.

    Example: `python -m stcln export`
    """
    return run(workspace, log, "export")


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(help="A cube (NetCDF or Zarr) or a season store.")],
    output: Annotated[Path, typer.Argument(help="The GeoTIFF to write.")],
    model: Annotated[Path, typer.Option(help="A model's directory or its ONNX file.")] = Path(
        "models/champion/model.onnx"
    ),
    log: Logged = Log.text,
) -> Summary:
    """Map crops: a GeoTIFF of class and confidence, with a legend for QGIS beside it.

    Example: `python -m stcln predict data/seasons/2019.zarr map.tif --model models/champion/model.onnx`
    """
    from stcln.predict import predict

    with ExitStack() as stack:
        return tell(predict(source, model, output, reporter(stack, log)), log)


@app.command()
def lineage(
    path: Annotated[Path, typer.Argument(help="A report, model, map or season store, or a file in one.")],
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", show_default="the path's own, else here")
    ] = None,
    again: Annotated[
        bool, typer.Option("--rebuild", help="Make it again from the archive, in a clean directory, and compare.")
    ] = False,
    log: Logged = Log.text,
) -> None:
    """Walk from a result up to the archive and name what no longer matches; exit status 1 if anything does not.

    With `--rebuild` every stage on the way runs again, with the parameters recorded, in a directory of its own.

    Example: `python -m stcln lineage reports/study`
    """
    root = next((at for at in path.resolve().parents if (at / "params.yaml").is_file()), HERE)
    place = Workspace((workspace or root).resolve())
    matches = _rebuild(path, place, log) if again else _walk(path, place, log)
    raise typer.Exit(0 if matches else 1)


def _walk(path: Path, workspace: Workspace, log: Log) -> bool:
    """Print the walk; whether all matches."""
    from stcln.lineage import as_json, render, trace

    found = trace(path, workspace)
    if log is Log.json:
        typer.echo(json.dumps(as_json(found)))
    else:
        Console().print(render(found))
        typer.echo("all matches" if found.matches else f"{len(found.problems)} things do not match, marked ✗ above")
    return found.matches


def _rebuild(path: Path, workspace: Workspace, log: Log) -> bool:
    """Rebuild and print what came; whether all of it is as recorded. What differs is kept to be looked at."""
    from stcln.rebuild import forget, rebuild

    with ExitStack() as stack:
        clean, results = rebuild(path, workspace, reporter(stack, log))
    differences = [text for result in results for text in result.differences]
    if log is Log.json:
        outputs = [asdict(result) for result in results]
        typer.echo(json.dumps({"path": str(path), "same": not differences, "outputs": outputs}))
    else:
        told = f"{len(results)} outputs made again from the archive"
        typer.echo(
            "\n".join([*differences, f"{told}; they differ, see {clean}" if differences else f"{told}: the same"])
        )
    if not differences:
        forget(clean)
    return not differences


@app.command()
def simulate(
    target: Annotated[Path, typer.Argument(help="Directory to write the archive into; must not exist.")],
    layout: Annotated[str, typer.Option(help="mtlcc, mtlcc-geotiff, pastis, pastis-r or cube.")] = "mtlcc",
    season: Annotated[list[str], typer.Option(help="A season; repeat it for more.")] = ["2018", "2019"],  # noqa: B006
    tiles: Annotated[int, typer.Option(help="Tiles a season.")] = 24,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels of 10 m.")] = 24,
    seed: int = 3407,
    log: Logged = Log.text,
) -> None:
    """Write a simulated archive in a real data set's layout. Its data are simulated, whatever they look like.

    Example: `python -m stcln simulate archive --layout pastis --season 2019`
    """
    from stcln.data.simulate import archive

    with ExitStack() as stack:
        archive(target, layout, season, tiles, size, seed, reporter(stack, log))


def run_verb(argv: Sequence[str], listener: Reporter) -> Summary:
    """Run a verb in this process, its progress told to `listener`.

    Args:
        argv: The words after `python -m stcln`: `["prepare", "--season", "2018"]`.
        listener: Listens in place of the terminal.

    Returns:
        The verb's summary: numbers and short texts by name.

    Raises:
        BadInput: Input that cannot be used.
    """
    token = LISTENER.set(listener)
    try:
        with refusals_of_the_disk():
            return cast(Summary, app(list(argv), standalone_mode=False) or {})
    finally:
        LISTENER.reset(token)


def main() -> None:
    """Run the command line; bad input ends in its sentence and exit status 2, SIGINT in 130, SIGTERM in 143."""
    as_json = "--log json" in " ".join(sys.argv).replace("=", " ")
    with signals(as_json=as_json):
        try:
            with refusals_of_the_disk():
                app()
        except BadInput as error:
            event = {"event": "error", "where": error.where, "problem": error.problem, "remedy": error.remedy}
            print(json.dumps(event) if as_json else f"stcln: {error}", file=sys.stderr)
            sys.exit(error.status)
        except Stopped as stopped:
            leave(stopped)

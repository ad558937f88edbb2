"""What Dagster and the ledger add to the work itself, on trivial steps. Prints JSON lines.

    python benchmarks/orchestration.py overhead|study|queue|commit [--seasons 5] [--lengths 6] [--arms 4] [--runs 200]

overhead: a real asset (`prepare` of a simulated season) through Dagster beside its bare command, in turn.
study: every cell of a toy study through the study job's way beside `dvc repro` in a twin workspace.
queue: runs asked for at once, each cell several times over, through a daemon with infra/dagster.yaml.
commit: the ledger's commit and look beside DVC's own, on one workspace, as its cells come in.
"""

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PATHS = [str(CHECKOUT), str(CHECKOUT / "tests"), str(CHECKOUT / "tests/orchestration")]
sys.path[:1] = PATHS  # in place of this directory, where `orchestration` would be this file

import dagster as dg  # noqa: E402
import real_study  # noqa: E402
import toy_workspace  # noqa: E402
from dvc.repo import Repo, lock_repo  # noqa: E402
from own_daemon import daemon  # noqa: E402
from toy_workspace import Toy  # noqa: E402

from assets import Plan  # noqa: E402
from orchestration import study  # noqa: E402
from orchestration.home import make_home  # noqa: E402
from orchestration.resources import resources  # noqa: E402
from orchestration.single import asset_job, execute  # noqa: E402
from stcln.workspace import Workspace  # noqa: E402

REPEATS = 3


def overhead(root: Path, asked: argparse.Namespace) -> None:
    """Seconds of `python -m stcln prepare`, and of the asset that runs it, each from nothing but the archive."""
    real_study.make(root)
    os.environ.update(real_study.workspace(root))
    plan, parts, command = Plan(Workspace(root)), resources(root), ("-m", "stcln", "prepare", "--season", "2018")

    def afresh() -> None:
        shutil.rmtree(root / "data/seasons", ignore_errors=True)
        shutil.rmtree(root / ".dvc/cache/runs", ignore_errors=True)

    def asset() -> None:
        if not execute(job, instance, dg.AssetKey("season_store"), {}, "2018", "prepare@2018").success:
            sys.exit("the asset failed")

    with dg.DagsterInstance.from_config(str(make_home(root))) as instance:
        study.materialise(plan, plan.steps()[:1], instance, parts, lambda line: None)
        job, seconds = asset_job(plan, parts), {"command": [], "asset": []}
        for _ in range(REPEATS):
            afresh()
            seconds["command"].append(timed(lambda: real_study.call(root, *command)))
            afresh()
            seconds["asset"].append(timed(asset))
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    tell("overhead", **middle, added=middle["asset"] - middle["command"], least=min(seconds["asset"]))


def whole(root: Path, asked: argparse.Namespace) -> None:
    """Seconds of a whole toy study either way, and whether both leave the same dvc.lock."""
    toy = make(root / "dagster", asked)
    twin = Toy(Path(shutil.copytree(toy.root, root / "dvc")))
    with dg.DagsterInstance.from_config(str(make_home(toy.root))) as instance:
        ours = timed(lambda: toy.dagster(instance))
    tell("study", by="dagster", stages=len(toy.plan.steps()), seconds=ours)
    theirs = timed(lambda: twin.dvc("repro", "-q"))
    tell("study", by="dvc repro", seconds=theirs, ratio=ours / theirs, same_lock=toy.lock == twin.lock)


def queue(root: Path, asked: argparse.Namespace) -> None:
    """Seconds until all runs have ended, how they ended, and how often each cell was computed."""
    toy = make(root, asked)
    home = make_home(root)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        first = [step for step in toy.plan.steps() if step.stage.startswith(("fetch", "prepare"))]
        study.materialise(toy.plan, first, instance, toy.resources, lambda line: None)
        toy.ran()
        cells = [step for step in toy.plan.steps() if step.stage.startswith("scratch")]
        ask = [cells[number % len(cells)] for number in range(asked.runs)]
        (root / "ask.json").write_text(json.dumps([(step.asset.to_user_string(), step.partition) for step in ask]))
        before, began = instance.get_runs_count(), time.perf_counter()
        with daemon(root, home, CHECKOUT / "benchmarks/queued.py") as process:
            while instance.get_runs_count(dg.RunsFilter(statuses=ENDED)) < before + asked.runs:
                if process.poll() is not None:
                    sys.exit((root / "daemon.log").read_text())
                time.sleep(1)
        seconds = time.perf_counter() - began
        ends = Counter(run.status.value for run in instance.get_runs(limit=asked.runs))
    ran, clean = toy.ran(), toy.dvc("status", *{step.stage for step in ask})
    tell("queue", runs=asked.runs, seconds=seconds, ends=ends, cells=len(set(map(str, ask))), computed=len(ran),
         computed_again=len(ran) - len(set(ran)), status_clean="up to date" in clean)  # fmt: skip


ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def commit(root: Path, asked: argparse.Namespace) -> None:
    """Seconds of a commit and of a look at one stage, ours and DVC's own, where so many cells are in dvc.lock."""
    toy = make(root, asked)
    ledger, done = toy.resources["ledger"], 0
    for step in toy.plan.steps():
        if step.stage.startswith(("evaluate", "report", "export")):
            continue
        subprocess.run([sys.executable, *ledger.argv(step.stage)[1:]], cwd=root, check=True)
        ledger.commit(step.stage)
        done += step.stage.startswith(("scratch", "finetune"))
        if step.keys.get("arm") and done in CELLS:
            name = step.stage
            found = {
                "commit": median(lambda name=name: ledger.commit(name)),
                "dvc_commit": median(lambda name=name: by_dvc(root, lambda repo: repo.commit(name, force=True))),
                "look": median(lambda name=name: ledger.version(name)),
                "dvc_look": median(
                    lambda name=name: by_dvc(
                        root, lambda repo: [s.changed() for s in repo.index.stages if s.name == name]
                    )
                ),
            }
            tell("commit", cells=done, **found)


CELLS = (6, 24, 60, 120, 240)


def by_dvc(root: Path, work: Callable[[Repo], object]) -> None:
    """Do it the way the ledger once did."""
    with chdir(root), Repo(str(root)) as repo, lock_repo(repo):
        work(repo)


def make(root: Path, asked: argparse.Namespace) -> Toy:
    """A toy workspace of the size asked for."""
    toy_workspace.make(root, params=toy_workspace.grid(asked.seasons, asked.lengths, asked.arms))
    return Toy(root)


def median(work: Callable[[], object]) -> float:
    """The median of the seconds that it takes."""
    return statistics.median(timed(work) for _ in range(REPEATS))


def timed(work: Callable[[], object]) -> float:
    """The seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def tell(what: str, **found: object) -> None:
    """Print a measurement."""
    short = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    print(json.dumps({"what": what, **short}), flush=True)


def main() -> None:
    """Measure what is asked for, in a directory of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = {"overhead": overhead, "study": whole, "queue": queue, "commit": commit}
    parser.add_argument("what", choices=modes)
    for name, value in (("seasons", 5), ("lengths", 6), ("arms", 4), ("runs", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("dvc").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as directory:
        modes[asked.what](Path(directory).resolve() / "work", asked)


if __name__ == "__main__":
    main()

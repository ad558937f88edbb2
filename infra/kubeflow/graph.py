"""The graph of a workspace's dvc.yaml, as JSON for `pipeline.py`, which runs where kfp is and DVC is not.

    python infra/kubeflow/graph.py WORKSPACE > graph.json

Image and limits are those of the file that STCLN_DEPLOYMENT names. The texts of the workspace go into its DVC remote,
from where the steps take them.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from orchestration.deployment import deployment
from orchestration.remote.known import Known
from orchestration.remote.ledger import RemoteLedger
from orchestration.remote.order import STAGE, UNLESS_MADE, send
from orchestration.remote.store import Store
from orchestration.runners.pipes import PROGRAM
from orchestration.turns import in_turn
from stcln.errors import BadInput
from stcln.workspace import Workspace


def graph(root: Path) -> dict[str, Any]:
    """Every stage of a workspace as a task: its words, the tasks it needs, its limits; upstream first.

    Raises:
        BadInput: The workspace has no remote or pins no code, or the deployment has no image for it.
    """
    place = deployment()
    if not place.image or place.results != "remote":
        problem = "it names no image whose steps take and give by the DVC remote"
        raise BadInput("the deployment", problem, "set `image` (stcln-remote) and `results: remote` in its file")
    if not (root / "code.yaml").exists():
        problem = "it does not pin the code, by which a step knows whether its image is the right one"
        raise BadInput(root, problem, "make a workspace with `python -m stcln new`")
    if several := [pattern for pattern, limits in place.limits.items() if (limits.nodes or 1) > 1]:
        problem = "a task of a pipeline runs on one node"
        raise BadInput(f"the deployment, field limits.{several[0]}.nodes", problem, "leave it out for the pipeline")
    RemoteLedger(root)  # refuses what cannot travel

    def look(repo: Repo) -> dict[str, Any]:
        known = Known(repo, Store(repo))
        tasks = {
            name: {
                "words": [*shlex.split(known.stage(name).cmd)[len(PROGRAM) :], STAGE, name, UNLESS_MADE],
                "needs": sorted(needs),
                "limits": place.limits_of(name).model_dump(exclude_none=True),
            }
            for name, needs in known.order().items()
        }
        sent = send(repo, known, known.store, "kubeflow")
        return {"name": Workspace(root).study.name, "image": place.image, "order": sent.where, "tasks": tasks}

    return in_turn(root, look)


if __name__ == "__main__":
    try:
        json.dump(graph(Path(sys.argv[1]).resolve()), sys.stdout, indent=1)
    except BadInput as error:
        sys.exit(f"graph: {error}")

"""A graph of `graph.py` as a Kubeflow pipeline, in an environment of kfp's own (requirements.txt).

    python infra/kubeflow/pipeline.py graph.json pipeline.yaml      compile it, for a cluster
    python infra/kubeflow/pipeline.py graph.json --local            run it here, by kfp's own runner

A task is a step as Dagster starts it. It takes its inputs from the DVC remote and leaves its output and its run there,
so that no bytes pass through Kubeflow; what was made before is not made again.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, local

STEP = ["python", "-m", "orchestration.step"]


@dsl.component(base_image="python", install_kfp_package=False)
def process(command: list, order: str):  # noqa: ANN201 - kfp takes an annotation for an output
    """A step as a process: kfp's local runner knows no containers without a daemon."""
    import subprocess

    subprocess.run([*command, "--order", order], check=True)


def in_process(graph: dict[str, Any], stage: str, order: str) -> dsl.PipelineTask:
    """A task that runs here."""
    return process(command=[*STEP, *graph["tasks"][stage]["words"]], order=order)


def in_container(graph: dict[str, Any], stage: str, order: str) -> dsl.PipelineTask:
    """A task in the deployment's image, with the limits of its stage."""
    words, limits = graph["tasks"][stage]["words"], graph["tasks"][stage]["limits"]

    def step(order: str):  # noqa: ANN202 - as above
        return dsl.ContainerSpec(image=graph["image"], command=STEP, args=[*words, "--order", order])

    step.__name__ = re.sub(r"\W", "_", stage)
    task = dsl.container_component(step)(order=order)
    if cpus := limits.get("cpus"):
        task.set_cpu_limit(f"{cpus:g}")
    if memory := limits.get("memory"):
        task.set_memory_limit(memory)
    if gpus := limits.get("gpus"):
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(gpus)
    return task


def pipeline(graph: dict[str, Any], task: Callable[[dict[str, Any], str, str], dsl.PipelineTask]) -> Any:
    """The pipeline: a task a stage, after those whose outputs it reads."""

    @dsl.pipeline(name=graph["name"])
    def study(order: str = graph["order"]):  # noqa: ANN202 - as above
        made: dict[str, dsl.PipelineTask] = {}
        for stage, entry in graph["tasks"].items():
            made[stage] = task(graph, stage, order).after(*(made[need] for need in entry["needs"]))
            made[stage].set_display_name(stage).set_caching_options(False)

    return study


def main(graph: str, target: str) -> None:
    """Compile a graph into a file, or run it."""
    read = json.loads(Path(graph).read_text())
    if target != "--local":
        compiler.Compiler().compile(pipeline(read, in_container), target)
        return
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(Path(graph).with_suffix(".local")))
    pipeline(read, in_process)()


if __name__ == "__main__":
    main(*sys.argv[1:])

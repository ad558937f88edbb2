"""Steps that train as TrainJobs of Kubeflow, on one node or several; the others as pods."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.pipes.utils import PipesEnvContextInjector, open_pipes_session
from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer import CustomTrainerContainer, TrainerClient
from kubeflow.trainer.options import common, kubernetes
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from orchestration.deployment import Deployment, Limits
from orchestration.runners import pod_spec
from orchestration.runners.kubernetes import KubernetesRunner, connected, messages_of, told
from orchestration.runners.pipes import PROGRAM, code_of, left_over, step_of
from orchestration.runners.pods import Pod, PodError, StartError, none_unattended
from orchestration.runners.trainjobs import TrainJobs
from stcln.verbs import TOGETHER

NODE = "node"
"""Kubeflow's name of what trains: of the job in the runtime, and of its container."""


class KubeflowRunner:
    """Runs a step that trains on the deployment's runtime, by torchrun, on as many nodes as the stage's limits say.

    A job that ended well is deleted; one that did not is kept to be looked at, until the stage runs again.

    Args:
        root: The workspace.
        deployment: Image, limits, mounts, cluster.
    """

    def __init__(self, root: Path, deployment: Deployment) -> None:
        self.root, self.deployment = root, deployment
        self.cluster = pod_spec.cluster_of(deployment)
        self.pods = KubernetesRunner(root, deployment)

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        """Run `python -m stcln VERB ...`; gives the step's summary, which the first process tells.

        Raises:
            dagster.Failure: Bad input, a limit, a runtime or image that is missing, with the sentence.
            dagster.RetryRequested: No API server, or a pod was ended from outside.
        """
        if argv[len(PROGRAM)] not in TOGETHER:
            return self.pods.run(stage, argv, context)
        limits, messages = pod_spec.limits_of(self.deployment, stage), messages_of(self.root, self.deployment)
        if not (limits.cpus or limits.gpus):
            problem = f"{stage}: its `limits` name neither cpus nor gpus, of which a TrainJob needs one"
            raise dg.Failure(f"{problem}; correct the deployment.", allow_retries=False)
        with told(self.deployment, stage, messages, context):
            patch = self._patch(stage, limits, context.run.run_id)
            jobs = TrainJobs(connected(), self.cluster)
            self._sweep(jobs, stage, context)
            with open_pipes_session(
                context.op_execution_context, PipesEnvContextInjector(), messages, extras=code_of(argv)
            ) as pipes:
                name = f"stcln-{re.sub('[^a-z0-9]+', '-', stage.lower())[:20].strip('-')}-{context.run.run_id[:8]}"
                marks = {f"{pod_spec.PREFIX}/stage": stage, f"{pod_spec.PREFIX}/workspace": str(self.root)}
                with none_unattended(lambda: self._sweep(jobs, stage, context)), _unwrapped(self.cluster.runtime):
                    TrainerClient(KubernetesBackendConfig(namespace=self.cluster.namespace)).train(
                        runtime=self.cluster.runtime,
                        trainer=self._trainer(limits, pipes.get_bootstrap_env_vars()),
                        options=[
                            common.Name(name),
                            kubernetes.Labels(pod_spec.labels(self.root, stage, context.run.run_id)),
                            kubernetes.Annotations(marks),
                            kubernetes.TrainerCommand(torchrun(argv, limits)),
                            patch,
                        ],
                    )
                self._follow(jobs, name, limits.nodes or 1)
        return messages.told("summary") or {}

    def _trainer(self, limits: Limits, variables: Mapping[str, str]) -> CustomTrainerContainer:
        return CustomTrainerContainer(
            image=str(self.deployment.image),
            num_nodes=limits.nodes or 1,
            resources_per_node=pod_spec.resources(limits),
            env=dict(variables),
        )

    def _patch(self, stage: str, limits: Limits, run_id: str) -> kubernetes.RuntimePatch:
        """What a job's pods have beside the runtime's: the workspace, or room for a part of it, its owner, labels."""
        if pod_spec.is_alone(self.deployment):
            volume, mounts = pod_spec.tmp(limits), None  # in the place of the runtime's volume of that name
        else:
            volume = pod_spec.workspace_volume(self.cluster)
            mounts = pod_spec.workspace_mounts(self.root, self.deployment)
        pod = kubernetes.PodTemplatePatch(
            metadata={"labels": pod_spec.labels(self.root, stage, run_id)},
            spec=kubernetes.PodSpecPatch(
                volumes=[volume],
                containers=[kubernetes.ContainerPatch(name=NODE, volume_mounts=mounts)],
                security_context=pod_spec.identity(self.root),
            ),
        )
        job = kubernetes.JobTemplatePatch(spec=kubernetes.JobSpecPatch(template=pod))
        nodes = kubernetes.JobSetSpecPatch(replicated_jobs=[kubernetes.ReplicatedJobPatch(name=NODE, template=job)])
        template = kubernetes.JobSetTemplatePatch(spec=nodes)
        return kubernetes.RuntimePatch(training_runtime_spec=kubernetes.TrainingRuntimeSpecPatch(template=template))

    def _sweep(self, jobs: TrainJobs, stage: str, context: dg.AssetExecutionContext) -> None:
        """Delete what nobody waits for of this stage; a step among it that still runs saves its state."""
        for left in jobs.standing(pod_spec.labels(self.root, stage)):
            if left_over(left["labels"][f"{pod_spec.PREFIX}/run"], context):
                context.log.info(f"TrainJob {left['name']} was left by a run that is over: it is deleted")
                jobs.remove(left["name"])

    def _follow(self, jobs: TrainJobs, name: str, nodes: int) -> None:
        """Wait for all nodes, print what the first prints, and wait for the end; a job that ended well is deleted."""
        try:
            first = jobs.started(name, nodes).metadata.name
            with suppress(PodError):  # which of the nodes failed first is seen below
                Pod(jobs.core, self.cluster, first).follow(end=lambda: jobs.remove(name))
            well, failed = jobs.ended(name)
        except BaseException:
            with suppress(ApiException, HTTPError, StartError):  # the next run sweeps
                jobs.remove(name)
            raise
        if not well:
            which = f", and this pod of it, {failed.metadata.name}" if failed else ""
            how = f"kubectl -n {self.cluster.namespace} describe trainjob {name}"
            raise PodError(failed, f"TrainJob {name}{which} is kept: `{how}`.")
        jobs.remove(name)


def torchrun(argv: list[str], limits: Limits) -> list[str]:
    """The command of every node: a process a GPU, or one; the nodes know each other by variables of the trainer's."""
    return ["python", "-m", "torch.distributed.run", "--nproc-per-node", str(limits.gpus or 1), *step_of(argv)]


@contextmanager
def _unwrapped(runtime: str) -> Iterator[None]:
    """Within, the SDK's errors are what caused them.

    Raises:
        StartError: There is no such runtime, or none that the SDK can use.
    """
    try:
        yield
    except (RuntimeError, TimeoutError) as error:
        cause = error.__cause__
        if isinstance(cause, ApiException) and cause.status == 404:
            how = "`kubectl apply -k` an overlay of infra/kubernetes, or correct cluster.runtime"
            raise StartError(f"ClusterTrainingRuntime {runtime}: there is none of that name; {how}.") from None
        if isinstance(cause, ApiException | HTTPError):
            raise cause from None
        if isinstance(error, TimeoutError):
            raise HTTPError(str(error)) from None
        raise StartError(f"ClusterTrainingRuntime {runtime}: {cause or error}") from None

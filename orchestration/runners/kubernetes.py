"""Steps as pods of a Kubernetes cluster, one a step."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_k8s import PipesK8sClient
from dagster_k8s.client import DagsterKubernetesClient
from kubernetes.client import ApiException, CoreV1Api
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from urllib3.exceptions import HTTPError

from orchestration.deployment import Cluster, Deployment
from orchestration.remote.messages import ByRemote
from orchestration.runners.pipes import InWorkspace, Told, code_of, left_over, lost, step_of
from orchestration.runners.pod_spec import PREFIX, cluster_of, is_alone, labels, limits_of, pod_spec, selector
from orchestration.runners.pods import Pod, PodError, StartError, ending_of, line, none_unattended, patiently


class KubernetesRunner:
    """Runs steps in pods of the deployment's image, as the workspace's owner, not as root.

    A pod that ended well is deleted; one that did not is kept to be looked at, until the stage runs again.

    Args:
        root: The workspace.
        deployment: Image, limits, mounts, cluster.
    """

    def __init__(self, root: Path, deployment: Deployment) -> None:
        self.root, self.deployment = root, deployment

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        """Run `python -m stcln VERB ...` as a step in a pod; gives the step's summary.

        Raises:
            dagster.Failure: Bad input, a limit, an image that is missing or of other code, with the sentence.
            dagster.RetryRequested: No API server, or the pod was ended from outside.
        """
        cluster, messages = cluster_of(self.deployment), messages_of(self.root, self.deployment)
        with told(self.deployment, stage, messages, context):
            spec = pod_spec(self.root, self.deployment, limits_of(self.deployment, stage))
            api = connected()
            self._sweep(api, stage, context)
            client = _Client(messages, cluster)
            with none_unattended(lambda: self._sweep(api, stage, context)):
                client.run(
                    context=context.op_execution_context,
                    image=self.deployment.image,
                    command=["python", *step_of(argv)],
                    namespace=cluster.namespace,
                    extras=code_of(argv),
                    base_pod_meta={
                        "labels": labels(self.root, stage, context.run.run_id),
                        "annotations": {f"{PREFIX}/stage": stage, f"{PREFIX}/workspace": str(self.root)},
                    },
                    base_pod_spec=spec,
                    pod_wait_timeout=0,
                    delete_pod_on_completion=False,
                )
            client.pod.remove()
        return messages.told("summary") or {}

    def _sweep(self, api: CoreV1Api, stage: str, context: dg.AssetExecutionContext) -> None:
        """Remove what nobody waits for of this stage; a step among it that still runs saves its state."""
        cluster, of = cluster_of(self.deployment), selector(labels(self.root, stage))
        for pod in patiently(lambda: api.list_namespaced_pod(cluster.namespace, label_selector=of)).items:
            if left_over(pod.metadata.labels[f"{PREFIX}/run"], context):
                context.log.info(f"pod {pod.metadata.name} was left by a run that is over: it is deleted")
                Pod(api, cluster, pod.metadata.name).remove()


class _Client(PipesK8sClient):
    """Pipes' client, but for the wait: see `pods`.

    Args:
        messages: Reads what the step tells.
        cluster: Where the pods are.
    """

    pod: Pod

    def __init__(self, messages: Told, cluster: Cluster) -> None:
        super().__init__(message_reader=messages)
        self.cluster = cluster

    @contextmanager
    def consume_pod_logs(
        self,
        context: dg.OpExecutionContext | dg.AssetExecutionContext,
        client: DagsterKubernetesClient,
        namespace: str,
        pod_name: str,
        enable_multi_container_logs: bool = False,
        ignore_containers: set[str] | None = None,
    ) -> Iterator[None]:
        """Follow the pod to its end, which the client then finds."""
        self.pod = Pod(client.core_api, self.cluster, pod_name)
        self.pod.follow()
        yield


def messages_of(root: Path, deployment: Deployment) -> Told:
    """What reads the messages of pods."""
    return ByRemote(root) if is_alone(deployment) else InWorkspace(root)


def connected() -> CoreV1Api:
    """The API of the cluster that this process is in, or that KUBECONFIG names.

    Raises:
        ConfigException: Neither.
    """
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        load_incluster_config()
    else:
        load_kube_config()
    return CoreV1Api()


@contextmanager
def told(deployment: Deployment, stage: str, messages: Told, context: dg.AssetExecutionContext) -> Iterator[None]:
    """Within, what goes wrong in a cluster is told as a sentence, and tried again where the cluster failed.

    Raises:
        dagster.Failure: It is not worth another try.
        dagster.RetryRequested: It is.
    """
    try:
        yield
    except PodError as ended:
        messages.refuse_bad_input()
        ending = ending_of(ended.pod, deployment.limits_of(stage).memory)
        sentence = f"{ending.sentence(stage, str(deployment.image))} {ended.kept}".rstrip()
        if ending.again:
            raise lost(context, sentence) from None
        raise dg.Failure(sentence, allow_retries=False) from None
    except StartError as error:
        raise dg.Failure(f"{stage}: {error}", allow_retries=False) from None
    except ConfigException as error:
        sentence = f"no Kubernetes cluster is named here ({line(str(error))}); set KUBECONFIG."
        raise dg.Failure(sentence, allow_retries=False) from None
    except (ApiException, HTTPError) as error:
        sentence, again = _refusal(error)
        if again:
            raise lost(context, sentence) from error
        raise dg.Failure(sentence, allow_retries=False) from error


def _refusal(error: ApiException | HTTPError) -> tuple[str, bool]:
    """Why the API server gave nothing, and whether to try again."""
    if isinstance(error, HTTPError):
        return f"the API server does not answer ({line(str(error))}); see to the cluster, or correct KUBECONFIG.", True
    why = f"{error.status}: {line(error.body or error.reason)}"
    if error.status >= 500 or error.status == 429:
        return f"the API server failed ({why}); see to the cluster.", True
    return f"the API server refuses ({why}); mend the deployment, or give Dagster the right.", False

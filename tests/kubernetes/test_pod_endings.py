"""What the statuses of a pod mean: a sentence for each, and whether it is worth another try."""

import json
from types import SimpleNamespace

import pytest
from kubernetes.client import ApiClient, ApiException, V1Pod
from own_cluster import Status, container
from step_in_cluster import STAGE
from urllib3.exceptions import HTTPError

from orchestration.runners import pods
from orchestration.runners.pod_spec import label
from orchestration.runners.pods import StartError, check_start, ending_of

pytestmark = pytest.mark.orchestration


def waiting(reason: str, message: str) -> Status:
    return container(waiting={"reason": reason, "message": message})


def ended(status: int, reason: str = "Error") -> Status:
    return container(terminated={"exitCode": status, "reason": reason})


UNPLACED = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "3 Insufficient nvidia.com/gpu",
        }
    ],
}
DISRUPTED = {
    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "the node is gone",
}  # fmt: skip


def evicted(why: str) -> Status:
    """What a node says of a pod that it ended."""
    return {"phase": "Failed", "reason": "Evicted", "message": why}


EVICTED = evicted("The node was low on resource: memory.")


def pod_in(status: Status) -> V1Pod:
    """A pod as the client reads it."""
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "step", "image": "registry/i"}]}}
    answer = SimpleNamespace(data=json.dumps({**body, "status": status}))
    pod: V1Pod = ApiClient().deserialize(answer, "V1Pod")
    return pod


@pytest.mark.parametrize(
    ("last", "said", "again"),
    [
        (None, "its pod was deleted", True),
        (EVICTED, "Evicted: The node was low", True),
        (evicted('Usage of EmptyDir volume "tmp" exceeds the limit "50Gi".'), "raise `disk` in its `limits`", False),
        (evicted("The node was low on resource: ephemeral-storage."), "low on resource: ephemeral-storage", True),
        ({**ended(1), "conditions": [DISRUPTED]}, "from outside: DeletionByTaintManager: the node is gone", True),
        (ended(143), "it was stopped from outside (exit status 143)", True),
        (ended(137), "was killed, from outside or because it needs more memory than the 4Gi", True),
        (ended(137, "OOMKilled"), "needs more memory than the 4Gi that `limits` gives it", False),
        (ended(127), "image registry/i cannot start it", False),
        (ended(1), "its last lines say why (exit status 1)", False),
    ],
)
def test_how_a_pod_ended_is_a_sentence_and_says_whether_to_try_again(
    last: Status | None, said: str, again: bool
) -> None:
    ending = ending_of(last and pod_in(last), "4Gi")
    assert said in ending.sentence(STAGE, "registry/i") and ending.again is again


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (waiting("ImagePullBackOff", "Back-off"), "image registry/i: the node cannot have it (ImagePullBackOff: Back-"),
        (waiting("ErrImageNeverPull", "not present"), "(ErrImageNeverPull: not present); push it to where"),
        (waiting("CreateContainerConfigError", 'secret "s" not found'), 'cannot start the container (secret "s" not'),
        (UNPLACED, "no node has room for it (3 Insufficient nvidia.com/gpu); lower its `limits`"),
        (waiting("ContainerCreating", ""), "its pod does not start (ContainerCreating)"),
        ({"phase": "Pending"}, "its pod does not start (Pending)"),
    ],
)
def test_what_keeps_a_pod_from_starting_is_told(status: Status, said: str) -> None:
    with pytest.raises(StartError) as told:
        check_start(pod_in(status), until=0)
    assert said in str(told.value)


def test_the_long_name_of_a_stage_makes_a_label_of_its_own() -> None:
    long = [f"evaluate-scratch@2016-{'very-' * 10}long-{arm}" for arm in ("scratch", "stretch")]
    assert label("fetch") == "fetch" and len({label(name) for name in long}) == 2
    assert all(len(label(name)) <= 63 and label(name)[-1].isalnum() for name in long)


def test_an_api_server_that_is_away_for_a_moment_ends_nothing_and_one_that_refuses_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pods, "POLL", 0)
    answers = iter([HTTPError(), ApiException(status=503), ApiException(status=429), None, ApiException(status=403)])

    def ask() -> str:
        if error := next(answers):
            raise error
        return "a pod"

    assert pods.patiently(ask) == "a pod"
    with pytest.raises(ApiException, match="403"):
        pods.patiently(ask)

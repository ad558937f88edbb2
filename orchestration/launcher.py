"""Starts runs on the code server and finds out when one has died with it, so that no run stays "started" for ever."""

import time

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation
from dagster._serdes import ConfigurableClassData

SERVER = "stcln/code_server"
PATIENCE = 600.0
"""Seconds that a code server may be silent before its runs count as lost."""


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, and what it lacks: an answer when the daemon asks whether a run still lives.

    A code server watches the processes of its runs itself. So a run is lost when the server that started it has gone:
    another answers in its place (by its id, new at every start), or none does. What is lost fails, and `run_retries`
    begins it anew; a step that was killed goes on where it was.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._silent: dict[str, float] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a run, and remember which server has it."""
        run, workspace = context.dagster_run, context.workspace
        origin = run.remote_job_origin
        if workspace and origin:
            location = workspace.get_code_location(origin.location_name)
            if isinstance(location, GrpcServerCodeLocation):
                self._instance.add_run_tags(run.run_id, {SERVER: location.client.get_server_id()})
        super().launch_run(context)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process can still be there. One that no code server started is not judged."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None or SERVER not in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            same = client.get_server_id() == run.tags[SERVER]
        except DagsterUserCodeUnreachableError:
            return self._unheard(run)
        self._silent.pop(run.run_id, None)
        if same:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "the code server was started anew, and its runs ended with the old one"
        )

    def _unheard(self, run: DagsterRun) -> CheckRunHealthResult:
        since = self._silent.setdefault(run.run_id, time.monotonic())
        if time.monotonic() - since < PATIENCE:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"the code server has not answered for {PATIENCE:.0f} s")

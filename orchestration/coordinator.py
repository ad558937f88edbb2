"""Queues runs, and tags each with who asked for it, as the proxy in front of the webserver tells."""

from dagster import DagsterRun, QueuedRunCoordinator
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.tags import BACKFILL_ID_TAG

from assets.champion import USER

HEADER = "X-Forwarded-User"
"""Set by the proxy, whatever the browser sent; a webserver without one gets none."""


class NamingRunCoordinator(QueuedRunCoordinator):
    """Dagster's own queue; the tag `user` of a run is the name that its person gave at the door.

    The daemon starts the runs of a backfill, and knows its tags alone, in which anybody may write any name.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Put a run into the queue."""
        backfill = context.dagster_run.tags.get(BACKFILL_ID_TAG)
        if user := context.get_request_header(HEADER) or (backfill and f"backfill {backfill}"):
            self._instance.add_run_tags(context.dagster_run.run_id, {USER: user})
        return super().submit_run(context)

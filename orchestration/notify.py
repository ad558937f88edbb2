"""Messages to people who are not looking: on a run that failed, and when another model is served.

STCLN_NOTIFY holds addresses, separated by spaces, in the form of Apprise (https://github.com/caronc/apprise): Slack
(`slack://A/B/C`), e-mail (`mailtos://user:password@host?to=...`), a webhook that takes JSON (`jsons://host/path`), and
many more. They carry secrets, so they stand in the environment and in no file. Without them nothing is sent.
`python -m orchestration.notify` sends a message to try them.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from assets.stage import Notifier

VARIABLE = "STCLN_NOTIFY"
STAGE_TAG = "stcln/stage"
"""The tag of a run that another run or a command started, and that tells of its failure itself."""


class Addresses:
    """Sends to every address in STCLN_NOTIFY."""

    def tell(self, title: str, text: str, log: Callable[[str], None]) -> None:
        """Send a message to each; one that cannot be reached is logged without its secrets, and nothing is raised."""
        for number, address in enumerate(os.environ.get(VARIABLE, "").split(), 1):
            try:
                failed = _send(address, title, text)
            except Exception as error:  # of whatever service: a message must not cost a result
                failed = type(error).__name__
            if failed:
                log(f"{VARIABLE}, address {number}: not sent, {failed}")


def _send(address: str, title: str, text: str) -> str:
    """Send one message; why it was not sent, or nothing."""
    import apprise  # half a second that only a message needs

    server: Any = apprise.Apprise.instantiate(address)
    if server is None:
        return "no address that Apprise knows"
    return "" if server.notify(title=title, body=text) else f"{server.url(privacy=True)} did not take it"


def failure_sensor(name: str, notifier: Notifier) -> dg.SensorDefinition:
    """Tells of runs that failed, each once.

    Args:
        name: The study's.
        notifier: Sends it.
    """

    @dg.run_failure_sensor(
        name="failed_run", default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Sends a message to the addresses in {VARIABLE} when a run has failed.",
    )  # fmt: skip
    def failed_run(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        run = context.dagster_run
        if STAGE_TAG in run.tags:
            return dg.SkipReason("what started it tells of it")
        if run.tags.get(WILL_RETRY_TAG) == "true":
            return dg.SkipReason("it is tried again")
        what = ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ())) or run.job_name
        partition = f" [{run.tags['dagster/partition']}]" if "dagster/partition" in run.tags else ""
        text = f"{_why(context)}\nRun {run.run_id}"
        notifier.tell(f"{name}: {what}{partition} failed", text, context.log.warning)
        return None

    return failed_run


def _why(context: dg.RunFailureSensorContext) -> str:
    """The sentence of the step that failed, as it was meant for a person if it was."""
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return data.user_failure_data.description
        if data.error:
            return (data.error.cause or data.error).message.strip()
    return context.failure_event.message or "the Dagster UI shows why"


def main() -> int:
    """Send a message to try the addresses; 1 if one did not take it, 2 if there is none."""
    if not os.environ.get(VARIABLE):
        print(f"notify: {VARIABLE} names no address", file=sys.stderr)
        return 2
    failed: list[str] = []
    Addresses().tell("stcln: a try", "Failed runs and promotions will be told here.", failed.append)
    print(*(failed or ["sent"]), sep="\n", file=sys.stderr if failed else sys.stdout)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

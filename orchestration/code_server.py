"""The code server of a service, on the port STCLN_CODE_PORT: `python -m orchestration.code_server`.

Told to end, Dagster's own waits half a minute for its runs and then takes their steps with it, unsaved. This one leaves
its runs at once, as in a crash: a step whose run is gone saves its state and ends. The daemon finds these runs lost and
begins them anew when there is a code server again; their steps go on where they were. How long steps may take to save
is for the engine to say (`stop_grace_period`).
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress

import psutil

RUN = "spawn_main("
"""In the command line of a run's process."""
PAUSE = 0.2


def main() -> int:
    """Serve until told to end; gives the status of a server that ended by itself."""
    command = ["dagster", "code-server", "start", "-m", "orchestration.definitions", "-h", "0.0.0.0"]
    # By an id that is new at every start the daemon sees that the runs of an earlier server are lost.
    more = ["-p", os.environ["STCLN_CODE_PORT"], "--fixed-server-id", str(uuid.uuid4())]
    server = subprocess.Popen([*command, *more])

    def told(*_: object) -> None:
        end(psutil.Process(server.pid))
        sys.exit()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return server.wait()


def end(server: psutil.Process) -> None:
    """End a server with its runs, before it can call these failed, and wait until their steps have ended."""
    steps = set[psutil.Process]()
    for process in (server, *server.children(recursive=True)):  # parents first
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if RUN in " ".join(process.cmdline()):
                steps.update(process.children(recursive=True))
            if process not in steps:
                process.kill()
    while any(map(_lives, steps)):
        time.sleep(PAUSE)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main())

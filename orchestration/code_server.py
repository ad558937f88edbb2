"""The code server of a service, on the port STCLN_CODE_PORT: `python -m orchestration.code_server`.

Told to end, Dagster's own waits half a minute for its runs and then takes their steps with it, unsaved. Here they lose
their runs at once, as in a crash: a step whose run is gone saves its state and ends. The daemon begins such runs anew,
and their steps go on where they were. How long that may take is for the engine to say (`stop_grace_period`).
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
    """Serve until told to end; gives the server's exit status."""
    command = ["dagster", "code-server", "start", "-m", "orchestration.definitions", "-h", "0.0.0.0"]
    # By an id that is new at every start the daemon sees that the runs of an earlier server are lost.
    more = ["-p", os.environ["STCLN_CODE_PORT"], "--fixed-server-id", str(uuid.uuid4())]
    server = subprocess.Popen([*command, *more])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end(server))
    return server.wait()


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server and its runs, and wait until their steps have ended."""
    steps: list[psutil.Process] = []
    processes = psutil.Process(server.pid).children(recursive=True)
    server.terminate()  # takes no other run
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if RUN in " ".join(process.cmdline()):
                steps += process.children(recursive=True)
                process.kill()
    while any(_lives(step) for step in steps):
        time.sleep(PAUSE)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main())

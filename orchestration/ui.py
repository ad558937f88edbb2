"""The Dagster UI of the workspace on 127.0.0.1: `python -m orchestration.ui [PORT]`."""

import os
import signal
import sys
from pathlib import Path

from orchestration.home import CHECKOUT, make_home, workspace_root
from stcln.errors import BadInput

PORT = "3000"


def main() -> None:
    """Become `dg dev`: webserver, daemon and code server, with this workspace's Dagster home; Ctrl-C ends all."""
    try:
        os.environ["DAGSTER_HOME"] = str(make_home(workspace_root()))
    except BadInput as error:
        sys.exit(f"ui: {error}")
    os.chdir(CHECKOUT)
    port = sys.argv[1] if len(sys.argv) > 1 else PORT
    print(f"http://127.0.0.1:{port}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job would pass on that it ignores them
        signal.signal(number, signal.SIG_DFL)
    dg = str(Path(sys.executable).with_name("dg"))
    os.execv(dg, [dg, "dev", "-m", "orchestration.definitions", "-h", "127.0.0.1", "-p", port])


if __name__ == "__main__":
    main()

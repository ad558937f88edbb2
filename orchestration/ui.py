"""The Dagster UI of the workspace on 127.0.0.1: `python -m orchestration.ui [PORT]`."""

import os
import sys

from orchestration.home import make_home, workspace_root
from orchestration.runners import CHECKOUT

PORT = "3000"


def main() -> None:
    """Become `dagster dev`: webserver and daemon, with this workspace's Dagster home."""
    os.environ["DAGSTER_HOME"] = str(make_home(workspace_root()))
    os.chdir(CHECKOUT)
    port = sys.argv[1] if len(sys.argv) > 1 else PORT
    print(f"http://127.0.0.1:{port}", flush=True)
    module = ["-m", "orchestration.definitions"]
    os.execv(sys.executable, [sys.executable, "-m", "dagster", "dev", *module, "-h", "127.0.0.1", "-p", port])


if __name__ == "__main__":
    main()

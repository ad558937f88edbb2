"""What `make up` does before compose: whose workspace it takes, which secrets it makes, what it refuses."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.orchestration

CHECKOUT = Path(__file__).parents[2]
USER = 10001


class Up:
    """infra/up on a copy of infra/; in the place of compose, a program that says what it was given."""

    def __init__(self, top: Path) -> None:
        self.env = top / "checkout/infra/.env"
        self.env.parent.mkdir(parents=True)
        for name in ("up", "down", "compose.yaml"):
            shutil.copy(CHECKOUT / "infra" / name, self.env.parent)
        self.compose = top / "compose"
        said = '"$STCLN_WORKSPACE $STCLN_USER $PWD $*" $COMPOSE_FILE $COMPOSE_PROJECT_NAME'
        self.compose.write_text(f"#!/bin/sh\necho {said}\n")
        self.engine = top / "engine"
        self.engine.write_text("#!/bin/sh\nexit 1\n")  # it knows neither image nor volume
        for program in (self.compose, self.engine):
            program.chmod(0o755)

    def __call__(self, workspace: Path | None, script: str = "up", **more: str) -> subprocess.CompletedProcess[str]:
        named = {"STCLN_WORKSPACE": str(workspace)} if workspace else {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STCLN_")}
        environment = {**kept, **named, "COMPOSE": str(self.compose), "ENGINE": str(self.engine), **more}
        return subprocess.run([self.env.parent / script], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def up(tmp_path: Path) -> Up:
    return Up(tmp_path)


def workspace(place: Path) -> Path:
    """A workspace of a user who is not root."""
    place.mkdir()
    (place / "params.yaml").touch()
    if os.geteuid() == 0:
        os.chown(place, USER, USER)
    return place


def test_secrets_are_made_once_and_the_workspace_is_remembered_and_no_other_is_taken(up: Up, tmp_path: Path) -> None:
    first, second = workspace(tmp_path / "first"), workspace(tmp_path / "second")
    owner = first.stat()
    done = up(first)
    assert done.stdout.endswith(f"{first} {owner.st_uid}:{owner.st_gid} {up.env.parent} up --detach\n"), done.stderr
    made = up.env.read_text()
    assert stat.S_IMODE(up.env.stat().st_mode) == 0o600 and "Wrote infra/.env" in done.stdout
    secrets = [line.split("=")[1] for line in made.splitlines() if "PASSWORD" in line or "SECRET" in line]
    assert len({*secrets}) == 3 and all(len(secret) == 36 for secret in secrets)
    assert up(None).stdout.startswith(f"{first} ")
    other = up(second)
    assert other.returncode == 2 and f"that of {first}, and its database too; for {second} take" in other.stderr
    assert up.env.read_text() == made
    up.env.write_text(made + "COMPOSE_FILE=compose.yaml:more.yaml\n")
    assert up(None).stdout.endswith("up --detach compose.yaml:more.yaml\n")


def test_a_directory_without_a_study_is_refused_and_nothing_is_written(up: Up, tmp_path: Path) -> None:
    done = up(tmp_path)
    assert done.returncode == 2 and f"{tmp_path}: there is no study; make one" in done.stderr
    assert not up.env.exists() and done.stdout == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can make a workspace of root's")
def test_a_workspace_of_root_is_refused(up: Up, tmp_path: Path) -> None:
    place = workspace(tmp_path / "workspace")
    os.chown(place, 0, 0)
    done = up(place)
    assert done.returncode == 2 and "it belongs to root" in done.stderr and not up.env.exists()


def test_a_password_does_not_go_over_the_network_in_clear(up: Up, tmp_path: Path) -> None:
    place = workspace(tmp_path / "workspace")
    done = up(place, STCLN_LISTEN="0.0.0.0:80")
    assert done.returncode == 2 and "STCLN_LISTEN=0.0.0.0:80: the password would go over" in done.stderr
    assert up(place, STCLN_LISTEN="0.0.0.0:443", STCLN_SITE="crops.example").returncode == 0
    assert "STCLN_PORT=443\n" in up.env.read_text()  # where Caddy listens then


def test_no_new_password_is_made_beside_a_database_that_has_another(up: Up, tmp_path: Path) -> None:
    up.engine.write_text('#!/bin/sh\n[ "$*" = "volume inspect stcln_postgres" ]\n')
    done = up(workspace(tmp_path / "workspace"))
    assert (
        done.returncode == 2 and "the database in volume stcln_postgres has one" in done.stderr and not up.env.exists()
    )


def test_a_service_beside_another_is_meant_again_by_the_next_up_and_down(up: Up, tmp_path: Path) -> None:
    more = {
        "COMPOSE_PROJECT_NAME": "second",
        "STCLN_LISTEN": "127.0.0.1:3001",
        "COMPOSE_FILE": "compose.yaml:more.yaml",
    }
    up(workspace(tmp_path / "workspace"), **more)
    assert "STCLN_LISTEN=127.0.0.1:3001\n" in up.env.read_text()
    assert up(None).stdout.endswith("up --detach compose.yaml:more.yaml second\n")
    stop, down = up(None, "down").stdout.splitlines()
    assert stop.endswith("stop webserver daemon code compose.yaml:more.yaml second")
    assert down.endswith(" down compose.yaml:more.yaml second")
    third = up(None, COMPOSE_PROJECT_NAME="third")
    assert third.returncode == 2 and "the service of this checkout is second; for third take" in third.stderr


def test_what_somebody_has_written_stays_and_only_what_lacks_is_made(up: Up, tmp_path: Path) -> None:
    place = workspace(tmp_path / "workspace")
    up.env.write_text(f'STCLN_WORKSPACE="{place}"\nSTCLN_PROXY_IMAGE=mirror/caddy\nSTCLN_UI_USER=ada\n')
    done = up(None)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("=", 1) for line in up.env.read_text().splitlines())
    assert lines["STCLN_UI_USER"] == "ada" and lines["STCLN_PROXY_IMAGE"] == "mirror/caddy"
    assert len(lines["STCLN_UI_PASSWORD"]) == len(lines["STCLN_POSTGRES_PASSWORD"]) == 36
    assert stat.S_IMODE(up.env.stat().st_mode) == 0o600


@pytest.mark.parametrize("line", ["maria", "maria secret", "stcln $2a$14$x", "ada $2a$14$y"])
def test_a_line_that_would_lock_everybody_out_is_named(up: Up, tmp_path: Path, line: str) -> None:
    users = up.env.parent / "service/users"
    users.parent.mkdir()
    users.write_text(f"# who may come in\nada $2a$14$x\n{line}\n")
    place = workspace(tmp_path / "workspace")
    done = up(place)
    assert done.returncode == 2 and f"{users}, line 3: it is not NAME HASH, or" in done.stderr
    users.write_text("# who may come in\nada $2a$14$x\n\n")
    assert up(place).returncode == 0

"""What may import what: stcln <- assets <- orchestration, one way up and no circle between the folders of stcln."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("stcln", "assets", "orchestration")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports, also inside functions; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("stcln", {"assets", "orchestration", "dagster", "dagster_pipes", "dvc"}),
        ("assets", {"orchestration", "dvc", "dagster_pipes"}),
    ],
)
def test_a_package_does_not_import_what_lies_above_it(package: str, forbidden: set[str]) -> None:
    assert files(package)
    assert {str(path.relative_to(ROOT)): found for path in files(package) if (found := roots(path) & forbidden)} == {}


def test_every_module_of_stcln_is_imported_where_dagster_and_dvc_are_not(tmp_path: Path) -> None:
    code = f"""
import importlib, pkgutil, sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules.update(dict.fromkeys(("dagster", "dagster_pipes", "dvc", "assets", "orchestration")))  # None: not there
import stcln
for module in pkgutil.walk_packages(stcln.__path__, "stcln."):
    importlib.import_module(module.name)
    print(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(files("stcln")) - 1


def test_a_step_needs_only_pipes_and_stcln() -> None:
    tree = ast.parse((ROOT / "orchestration/step.py").read_text())
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in at_once}
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {"dagster_pipes", "stcln"}


def test_a_step_elsewhere_needs_dvc_too_but_no_dagster() -> None:
    to_read, read = ["orchestration.step"], set()
    while to_read:
        path = ROOT / f"{to_read.pop().replace('.', '/')}.py"
        if path in read or not path.is_file():
            continue
        read.add(path)
        assert roots(path) & {"dagster", "assets"} == set(), path
        to_read += [name for name in imports(path) if name.startswith("orchestration.")]
    assert ROOT / "orchestration/remote/place.py" in read
    image = (ROOT / "infra/docker/Dockerfile").read_text()
    own = {path.relative_to(ROOT / "orchestration") for path in read if path.parent == ROOT / "orchestration"}
    assert all(f"orchestration/{path}" in image for path in own)


@pytest.mark.parametrize("name", ["fetch", "prepare", "store", "simulate", "readers"])
def test_reading_and_storing_data_does_not_need_torch(name: str) -> None:
    found = list((ROOT / "stcln/data" / name).rglob("*.py"))
    assert found
    assert not [str(file) for file in found if "torch" in roots(file)]


def part_of(dotted: str) -> str | None:
    """The folder or file of stcln, one level down, that a dotted name lies in: `data`, `model`, `cli`."""
    parts = dotted.split(".")
    if parts[0] != "stcln" or len(parts) < 2:
        return None
    top = ROOT / "stcln" / parts[1]
    return parts[1] if top.is_dir() or top.with_suffix(".py").exists() else None


def test_no_circle_between_the_parts_of_stcln() -> None:
    edges: dict[str, set[str]] = {}
    for path in files("stcln"):
        part = path.relative_to(ROOT / "stcln").parts[0].removesuffix(".py")
        found = {target for name in imports(path) if (target := part_of(name))}
        edges.setdefault(part, set()).update(found - {part})
    left = dict(edges)
    while top := [part for part, needs in left.items() if not needs & left.keys()]:
        for part in top:
            del left[part]
    assert left == {}, f"these import one another in a circle: {left}"


@pytest.mark.orchestration
def test_dagster_loads_the_definitions_without_torch() -> None:
    """Webserver, daemon, code server and every run load them; a step alone computes."""
    code = "import sys, orchestration.definitions; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr

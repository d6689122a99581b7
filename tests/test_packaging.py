"""The built package: everything that the commands need is inside, and they work without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that ``pip wheel`` builds of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return next(folder.glob("wecom_gateway-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, as pip would put it into site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def gateway(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m gateway`` from the installed package and nothing else of ours."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "gateway", *map(str, arguments)],
        cwd=installed.parent, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip


def test_every_file_is_inside(wheel: Path) -> None:
    """The wheel holds each file of ``gateway/`` and, as ``nginx_snippets``, each of ``nginx/``; no tests."""
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())

    shipped = {f"gateway/{path}" for path in _files(ROOT / "gateway")}
    shipped |= {f"gateway/nginx_snippets/{path}" for path in _files(ROOT / "nginx")}
    assert {name for name in inside if ".dist-info/" not in name} == shipped
    assert {Path(name).suffix for name in shipped} >= {".py", ".html", ".toml", ".conf", ".txt", ".typed"}


def test_the_command_is_declared(wheel: Path) -> None:
    """Installing it gives the command ``wecom-gateway``, and the licence travels along."""
    with zipfile.ZipFile(wheel) as archive:
        info = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}

    assert "wecom-gateway = gateway.cli:main" in info["entry_points.txt"]
    assert info["LICENSE"].startswith("MIT License")


def test_snippets_install_from_the_package(installed: Path, tmp_path: Path) -> None:
    """``nginx install`` writes the same files from the installed package as are in the checkout."""
    found = gateway(installed, "nginx", "install", tmp_path / "wecom")

    assert found.returncode == 0, found.stderr
    written = {path: (tmp_path / "wecom" / path).read_bytes() for path in _files(tmp_path / "wecom")}
    assert written == {path: (ROOT / "nginx" / path).read_bytes() for path in _files(ROOT / "nginx")}


def test_pages_render_from_the_package(installed: Path) -> None:
    """Templates and texts are found in the installed package: both languages load there."""
    script = (
        "import gateway.pages as pages; print(pages.__file__);"
        "print(pages.Pages(None).render('neutral', language='zh', status=401).text)"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=installed.parent, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert found.stdout.startswith(str(installed))
    assert "<!doctype html>" in found.stdout


def test_the_demo_runs_from_the_package(installed: Path) -> None:
    """The whole chain works with nothing but the installed package: its pages, its snippets, the sandbox's pages."""
    names = ("--port", "--sandbox-port", "--control-port", "--check-port", "--pages-port", "--ops-port", "--app-port")
    found = gateway(installed, "demo", "--check", *(option for name in names for option in (name, free_port())))

    assert (found.returncode, found.stderr) == (0, "")


def _files(folder: Path) -> set[Path]:
    """Every file below, but not what Python compiled."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}

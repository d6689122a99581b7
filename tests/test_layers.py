"""Data flows one way: pure modules know nothing of the edge, nothing imports upwards, the sandbox stands alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent

PURE = (
    *("errors", "secret", "member", "records", "accounts", "proof", "sealing", "quick", "session", "presence", "watch", "hold"),
    *("standing", "history", "criteria", "decision", "rules", "wording", "verdicts", "claims", "sessions", "tokens"),
    *("urls", "sites", "signin", "brake", "redis_url", "values", "config", "contradictions", "loading"),
)
"""The pure modules, lowest first: no network, no clock read, no aiohttp."""

LAYERS = (
    *((name,) for name in PURE),
    ("ledger",),
    ("tree", "locations", "wecom", "telemetry", "once", "turns", "in_use", "snippets", "pages", "systemd", "listeners", "empty"),
    ("names", "snapshot", "shared"),
    ("directory",),
    ("keys", "issuing"),
    ("assembly",),
    ("asked", "seat"),
    ("auth", "cookies", "ops", "trail"),
    ("admission",),
    ("recheck",),
    ("renewal",),
    ("login",),
    ("handover", "people", "events"),
    ("callback", "answers", "glass"),
    ("routes",),
    ("app",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""Each module imports only from layers above its own in this list."""

SANDBOX = "sandbox"
MAY_IMPORT_SANDBOX = {"cli", "demo", SANDBOX}

NETWORK = {"aiohttp", "asyncio", "socket", "ssl", "http", "requests", "aiocache", "uvloop"}
CLOCK = {("time", name) for name in ("time", "time_ns", "monotonic", "perf_counter", "localtime")} | {
    ("datetime", name) for name in ("now", "utcnow", "today")
}


def part_of(path: Path) -> str:
    """The module or package directly below ``gateway`` that *path* belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The full names that *path* imports, wherever in it; ``from gateway import x`` gives ``gateway.x``."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """The parts of the gateway that *path* imports."""
    found = {name.split(".")[1] for name in imports(path) if name.startswith("gateway.")}
    return {name for name in found if (ROOT / f"{name}.py").exists() or (ROOT / name).is_dir()}


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_nothing_imports_upwards(path: Path) -> None:
    """A module imports its own package and what lies below it; the sandbox imports itself only."""
    part = part_of(path)
    below = set() if part == SANDBOX else {name for name, rank in RANK.items() if rank < RANK[part]}

    assert ours(path) - {SANDBOX} <= below | {part}


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_the_sandbox_is_imported_by_few(path: Path) -> None:
    """Nothing that serves people can reach the sandbox, which hands out identities freely."""
    assert SANDBOX not in ours(path) or part_of(path) in MAY_IMPORT_SANDBOX


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_reach_for_nothing(name: str) -> None:
    """A pure module imports no network library and nothing that reads a clock."""
    found = set(imports(ROOT / f"{name}.py"))

    assert not {full.split(".")[0] for full in found} & NETWORK
    assert "time" not in {full.split(".")[0] for full in found}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_read_no_clock(name: str) -> None:
    """Who needs the time takes ``clock`` or ``now``."""
    tree = ast.parse((ROOT / f"{name}.py").read_text("utf-8"))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]

    assert not {(node.value.id, node.attr) for node in attributes if isinstance(node.value, ast.Name)} & CLOCK


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_no_module_state(path: Path) -> None:
    """What a module holds is made at import and never filled later: no ``global``, no empty container at its top."""
    tree = ast.parse(path.read_text("utf-8"))
    values = [node.value for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value]

    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global)]
    assert not [ast.unparse(value) for value in values if ast.unparse(value) in {"{}", "[]", "dict()", "list()", "set()"}]


def test_every_module_has_its_layer() -> None:
    """A new module is put into a layer here, knowingly, and one that is gone leaves the list."""
    assert {part_of(path) for path in FILES} == set(RANK) | {SANDBOX}


def test_no_module_is_called_after_nothing() -> None:
    """A module is called after what it is about."""
    assert not {path.stem for path in FILES} & {"utils", "helpers", "common", "manager", "base", "misc"}

"""The sites in ``nginx/examples``, and what a test may put in place of an operator's ports, folders and sockets."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "nginx" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.conf"))


def placed(name: str, places: dict[str, str]) -> str:
    """The example with each of its *places* as this machine has it; every one must occur, and nothing else is touched."""
    text = (FOLDER / name).read_text("utf-8")
    for old, new in places.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    return text


def settings(name: str) -> dict[str, Any]:
    """The gateway's settings that the example's own comment asks for."""
    comment = (FOLDER / name).read_text("utf-8").partition("# Context:")[0]
    block = comment.partition("#   # gateway.toml")[2].partition("\n#\n")[0]
    return tomllib.loads("\n".join(re.findall(r"^#   (.*)$", block, re.MULTILINE)))


def command(name: str) -> list[str]:
    """The arguments of the ``wecom-gateway`` command in the example's own comment."""
    (line,) = re.findall(r"^#   wecom-gateway (.*)$", (FOLDER / name).read_text("utf-8"), re.MULTILINE)
    return shlex.split(line)

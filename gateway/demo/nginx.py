"""A real nginx for the demo, run as whoever runs it: the shipped snippets, a configuration, a few pages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gateway import snippets
from gateway.demo.invitation import WECOM_AGENT
from gateway.demo.plan import MARK, CannotRun, Plan, loopback
from gateway.demo.templates import render
from gateway.loading import load

PLACES = "/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin"
"""Where nginx is when PATH does not say: on Debian it is in no ordinary user's PATH."""


def find(path: str) -> str:
    """The nginx program on *path*, folders with ``:`` between them; CannotRun if there is none."""
    found = shutil.which("nginx", path=path)
    if found is None:
        raise CannotRun("nginx is not installed; on Debian and Ubuntu: sudo apt install nginx")
    return found


def command(program: str, plan: Plan) -> list[str]:
    """The command line; relative paths of the configuration start at the demo's folder."""
    folder = f"{plan.folder}/"
    return [program, "-e", str(plan.logs / "nginx-error.log"), "-p", folder, "-c", str(plan.nginx_conf)]


def write(plan: Plan) -> None:
    """Write ``nginx.conf``, ``wecom/`` for the settings that are there already, and the pages under ``www/``."""
    snippets.install(plan.folder / "wecom", load(plan.config, {}))
    root = os.geteuid() == 0
    values = {"plan": plan, "loopback": loopback(), "mark": MARK, "root": root, "agent": WECOM_AGENT}
    _write(plan.nginx_conf, render("nginx.conf", **values))
    _write(plan.folder / "www" / "index.html", render("index.html", **values))
    _write(plan.folder / "www" / "site" / "index.html", render("site.html", **values))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text, "utf-8")

"""What the running demo prints: what to open, what to try, where its files are."""

from __future__ import annotations

import getpass
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.demo.plan import Plan
from gateway.demo.templates import render

WECOM_AGENT = "wxwork/4.1.30 MicroMessenger/7.0.1 Language/zh"
"""What makes a User-Agent the WeCom client's."""


def invitation(plan: Plan, environment: Mapping[str, str]) -> str:
    """The text, for a person at this machine or at the other end of ssh."""
    values = {"plan": plan, "agent": WECOM_AGENT, "tunnel": tunnel(plan, environment), "command": _command()}
    return render("invitation.txt", **values)


def tunnel(plan: Plan, environment: Mapping[str, str]) -> str:
    """The ``ssh -L`` line to type on the own machine, or nothing where the demo was not started through ssh."""
    match environment.get("SSH_CONNECTION", "").split():
        case [_, _, host, port]:
            ports = (plan.ports.site, plan.ports.sandbox, plan.ports.control)
            forwards = " ".join(f"-L {each}:127.0.0.1:{each}" for each in ports)
            return f"ssh {forwards} {'' if port == '22' else f'-p {port} '}{_user(environment)}@{host}"
    return ""


def _user(environment: Mapping[str, str]) -> str:
    return environment.get("USER") or getpass.getuser()


def _command() -> str:
    """Our command as it can be typed here: a virtual environment need not be active."""
    beside = Path(sys.executable).with_name("wecom-gateway")
    if shutil.which("wecom-gateway"):
        return "wecom-gateway"
    return str(beside) if beside.exists() else f"{sys.executable} -m gateway"

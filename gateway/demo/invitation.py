"""What the running demo prints: what to open, what to try, where its files are."""

from __future__ import annotations

import getpass
from collections.abc import Mapping

from gateway.demo.plan import Plan
from gateway.demo.templates import render

WECOM_AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 "
    "wxwork/4.1.30 MicroMessenger/7.0.1 Language/zh"
)
"""Says what the WeCom client says."""


def invitation(plan: Plan, environment: Mapping[str, str]) -> str:
    """The text, for a person at this machine or at the other end of ssh."""
    return render("invitation.txt", plan=plan, agent=WECOM_AGENT, tunnel=tunnel(plan, environment))


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

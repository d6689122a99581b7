"""What a handler may reach for, in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from gateway.accounts import Holders
from gateway.brake import Brake
from gateway.config import Config
from gateway.directory import Directory
from gateway.hold import Hold
from gateway.in_use import InUse
from gateway.ledger import Ledger
from gateway.once import Once
from gateway.pages import Pages
from gateway.proof import Prover
from gateway.rules import Rules
from gateway.sealing import Sealer
from gateway.session import Session
from gateway.sessions import Sessions
from gateway.sites import Sites
from gateway.standing import Standing
from gateway.telemetry import Telemetry
from gateway.tokens import Tokens
from gateway.urls import Site
from gateway.watch import Watch
from gateway.wecom import WeCom


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything built from one reading of the settings, and what outlives a reload."""

    config: Config
    sites: Sites
    callback: Site
    sealer: Sealer
    sessions: Sessions
    tokens: Tokens
    standing: Standing
    rules: Rules
    ledger: Ledger
    holders: Holders
    prover: Prover
    directory: Directory
    wecom: WeCom
    pages: Pages
    once: Once[Session]
    brake: Brake
    watch: Watch
    hold: Hold
    telemetry: Telemetry
    clock: Callable[[], float]
    in_use: InUse = field(default_factory=InUse)  #: by requests and by the re-check: a reload closes what it replaces after them


@dataclass(slots=True)
class Live:
    """Where the parts in force are found: a reload puts new ones here."""

    now: Parts
    leaving: bool = False  #: the process ends: each answer is the last on its connection


LIVE = web.AppKey("LIVE", Live)

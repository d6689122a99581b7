"""Parts from settings: what a process keeps for good, and what each reading of the settings asks for."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiocache import SimpleMemoryCache
from aiocache.base import BaseCache

from gateway.accounts import Holders
from gateway.brake import Brake
from gateway.config import Config
from gateway.criteria import reference
from gateway.directory import Directory, Shared
from gateway.errors import ConfigError
from gateway.hold import Hold
from gateway.keys import Parts
from gateway.ledger import Ledger, store_at
from gateway.ledger.syslog import Exporter, SyslogServer
from gateway.names import Resolved
from gateway.once import Once
from gateway.pages import Pages
from gateway.proof import Prover
from gateway.rules import Rules
from gateway.sealing import Sealer
from gateway.session import Session
from gateway.sessions import Sessions
from gateway.shared import cache_for
from gateway.sites import Sites
from gateway.standing import Standing
from gateway.telemetry import Telemetry
from gateway.tokens import Tokens
from gateway.watch import Watch
from gateway.wecom import App, Claim, Endpoints, WeCom

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Lasting:
    """What outlives a reload of the settings."""

    standing: Standing
    ledger: Ledger
    holders: Holders
    once: Once[Session]
    telemetry: Telemetry
    cache: BaseCache
    close_cache: Callable[[], Awaitable[None]]
    resolved: Resolved
    clock: Clock
    watch: Watch = field(default_factory=Watch)
    hold: Hold = field(default_factory=Hold)

    @staticmethod
    def of(config: Config, clock: Clock) -> Lasting:
        """What *config* asks for at the start; whoever follows the ledger is joined to it."""
        standing, telemetry = Standing(), Telemetry(clock)
        store, exporter = store_at(config.store, config.owner, clock), _exporter(config, clock)
        ledger = Ledger(store, standing, clock, retention_s=config.retention, exporter=exporter)
        made = Lasting(standing, ledger, Holders(), Once(clock), telemetry, *cache_for(config), Resolved(), clock)
        ledger.subscribe(made.resolved.apply, "named")
        telemetry.follow(ledger)
        ledger.subscribe(made.hold.apply, "held", "released")
        ledger.subscribe_runs(made.hold.revoked, "revoked")
        ledger.subscribe(made.holders.heard, "account")
        ledger.knows(made.holders.records)
        ledger.knows(lambda: made.resolved.records(clock()))
        return made


def _exporter(config: Config, clock: Clock) -> Exporter | None:
    if not config.syslog:
        return None
    server = SyslogServer.at(config.syslog, config.syslog_ca_file)
    return Exporter(store_at(config.store, config.owner, clock), server, clock)


def build(config: Config, http: aiohttp.ClientSession, lasting: Lasting) -> Parts:
    """The parts that *config* asks for, around what lasts."""
    sealer = Sealer(config.signing_keys)
    proven = {site.name: str(site.origin) for site in config.sites if site.jwt}
    prover = Prover(config.signing_keys, proven, corp_id=config.corp_id, agent_id=config.agent_id)
    claim = None if isinstance(lasting.cache, SimpleMemoryCache) else lasting.ledger.claim
    client = wecom_client(config, http, lasting.cache, lasting.clock, claim)
    rules = rules_of(config)
    shared = Shared(lasting.cache, lasting.resolved, lasting.ledger.note, lasting.telemetry, lasting.clock)
    return Parts(
        config=config,
        sites=Sites(config.sites),
        callback=config.callback,
        sealer=sealer,
        sessions=_sessions(config, lasting, sealer, prover),
        tokens=_tokens(config, lasting, sealer, prover),
        standing=lasting.standing,
        rules=rules,
        directory=directory_of(config, client, rules, shared),
        ledger=lasting.ledger,
        holders=lasting.holders,
        prover=prover,
        wecom=client,
        pages=Pages(Path(config.templates) if config.templates else None),
        once=lasting.once,
        brake=Brake(config.wecom.bad_codes_per_minute, lasting.clock),
        watch=lasting.watch,
        hold=lasting.hold,
        telemetry=lasting.telemetry,
        clock=lasting.clock,
    )


def _sessions(config: Config, lasting: Lasting, sealer: Sealer, prover: Prover) -> Sessions:
    return Sessions(
        sealer,
        corp_id=config.corp_id,
        agent_id=config.agent_id,
        lifetimes=config.lifetimes,
        clock=lasting.clock,
        raw_headers=config.raw_headers,
        remembered=config.remembered_sessions,
        accounts=config.accounts,
        prover=prover,
        presence=lasting.watch,
    )


def _tokens(config: Config, lasting: Lasting, sealer: Sealer, prover: Prover) -> Tokens:
    return Tokens(
        sealer,
        lasting.standing,
        corp_id=config.corp_id,
        agent_id=config.agent_id,
        clock=lasting.clock,
        raw_headers=config.raw_headers,
        prover=prover,
        presence=lasting.watch,
        accounts=config.accounts,
        holders=lasting.holders,
    )


def rules_of(config: Config) -> Rules:
    """The rules of the settings, with the tags that rules in nginx's paths use."""
    return Rules(config.rules, map(reference, config.tags))


def directory_of(config: Config, client: WeCom, rules: Rules, shared: Shared, *, names: bool = False) -> Directory:
    """The departments and tags that *client* sees."""
    return Directory(
        client,
        rules,
        shared,
        corp_id=config.corp_id,
        agent_id=config.agent_id,
        refresh_s=config.directory.refresh,
        with_names=names,
    )


def wecom_client(
    config: Config, http: aiohttp.ClientSession, cache: BaseCache, clock: Clock, claim: Claim | None = None
) -> WeCom:
    """The client of the app that *config* names; by *claim* the processes that share *cache* take turns."""
    wecom = config.wecom
    endpoints = Endpoints(wecom.api_url, timeout_s=wecom.timeout, proxy=wecom.proxy or None, private=wecom.private)
    return WeCom(App(config.corp_id, config.agent_id, config.app_secret), endpoints, http, cache, clock, claim=claim)


def http_client(config: Config) -> aiohttp.ClientSession:
    """What WeCom is asked through."""
    context: ssl.SSLContext | bool = True
    if config.wecom.ca_file:
        try:
            context = ssl.create_default_context(cafile=config.wecom.ca_file)
        except OSError as error:
            raise ConfigError([f"wecom.ca_file: {config.wecom.ca_file} cannot be used: {error}"]) from None
    family = socket.AF_INET if config.wecom.ipv4_only else socket.AF_UNSPEC
    connector = aiohttp.TCPConnector(ssl=context, family=family, limit=100)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

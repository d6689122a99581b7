"""What the demo is made of: its ports, its folder and the files in it."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import ascii_letters, digits

from gateway.urls import Origin

EVENT_KEYS = {"events-token": 32, "events-aes-key": 43}
"""The files that hold Token and EncodingAESKey, and the length of each."""

MARK = "# Written by `wecom-gateway demo` at each start."


class CannotRun(Exception):
    """The demo cannot start, or something in it broke; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on loopback, all different."""

    site: int = 8080  #: nginx: what browsers open
    sandbox: int = 9190  #: the sandbox WeCom's API and pages; browsers open these, too
    control: int = 9191  #: the sandbox's control by JSON
    check: int = 9180  #: the gateway's listeners
    pages: int = 9181
    ops: int = 9182
    app: int = 9183  #: the legacy app

    def refuse_taken(self) -> None:
        """Raise CannotRun for the first port that is not free, naming its option."""
        ports = asdict(self)
        for name, port in ports.items():
            twins = [option_of(other) for other, number in ports.items() if number == port and other != name]
            if twins:
                raise CannotRun(f"{option_of(name)} and {twins[0]}: both are {port}; each needs a port of its own")
            for address in loopback() if name == "site" else ("127.0.0.1",):
                if problem := _why_not(address, port):
                    raise CannotRun(f"{option_of(name)} {port}: {problem}; give it another number, or end what uses this one")


def option_of(name: str) -> str:
    """The command line option that sets a port."""
    return "--port" if name == "site" else f"--{name}-port"


def loopback() -> tuple[str, ...]:
    """The addresses that ``localhost`` may mean here."""
    return ("127.0.0.1",) if _why_not("::1", 0) else ("127.0.0.1", "::1")


def _why_not(address: str, port: int) -> str:
    """Why nothing can listen there, or nothing."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            probe.listen()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the demo lives; *folder* is absolute and belongs to the demo alone."""

    folder: Path
    ports: Ports = field(default_factory=Ports)

    @property
    def origin(self) -> Origin:
        """The first site, whose host WeCom sends people back to."""
        return Origin("http", "localhost", self.ports.site)

    @property
    def other(self) -> Origin:
        """A site of another host, which gets its sessions by hand-over."""
        return Origin("http", "127.0.0.1", self.ports.site)

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.sandbox}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.control}/_sandbox/"

    @property
    def app_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.app}"

    @property
    def config(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def nginx_conf(self) -> Path:
        return self.folder / "nginx.conf"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def claim(self) -> None:
        """Make the folder; CannotRun if it holds what is not a demo's."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            strangers = any(self.folder.iterdir()) and not self._is_ours()
        except OSError as error:
            raise CannotRun(f"--state {self.folder}: {(error.strerror or str(error)).lower()}") from None
        if strangers:
            raise CannotRun(f"--state {self.folder}: holds files that are not a demo's; give a new or empty folder")
        for name in ("logs", "tmp", "keys"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def _is_ours(self) -> bool:
        return self.config.is_file() and self.config.read_text("utf-8", "replace").startswith(MARK)

    def write_settings(self, *, corp_id: str, agent_id: int, secret: str) -> None:
        """Write ``gateway.toml`` for one app, and the keys beside it; a signing key that is there stays."""
        signing_key = self.folder / "keys" / "signing-key"
        for name, length in ((signing_key.name, 43), *EVENT_KEYS.items()):
            if not (path := self.folder / "keys" / name).exists():
                _write_secret(path, "".join(secrets.choice(ascii_letters + digits) for _ in range(length)))
        app_secret = self.folder / "keys" / "app-secret"
        _write_secret(app_secret, secret)
        self.config.write_text("\n".join(self._settings(corp_id, agent_id, app_secret, signing_key)), "utf-8")

    def callback(self) -> dict[str, str]:
        """What to enter in WeCom's console as the app's callback, in the words of the sandbox's control."""
        token, aes_key = ((self.folder / "keys" / name).read_text("utf-8").strip() for name in EVENT_KEYS)
        return {"url": self.origin.url("/_wecom/events"), "token": token, "aes_key": aes_key}

    def _settings(self, corp_id: str, agent_id: int, app_secret: Path, signing_key: Path) -> Iterator[str]:
        yield MARK
        yield f"corp_id = {_toml(corp_id)}"
        yield f"agent_id = {agent_id}"
        yield f"app_secret_file = {_toml(str(app_secret))}"
        yield f"signing_key_file = {_toml(str(signing_key))}"
        yield f"store = {_toml(f'sqlite://{self.folder}/ledger.sqlite3')}"
        yield 'callback_site = "demo"'
        yield 'details = ["position", "alias"]'
        yield 'contact = "演示管理员 / the demo\'s administrator"'
        for name, origin in (("demo", self.origin), ("other", self.other)):
            yield f'\n[[site]]\nname = "{name}"\npublic_url = "{origin}"'
        yield "\n[wecom]"
        yield from (f'{name}_url = "{self.sandbox_url}"' for name in ("api", "authorize", "login"))
        yield "\n[events]"
        yield from (
            f"{name.replace('events-', '').replace('-', '_')}_file = {_toml(str(self.folder / 'keys' / name))}"
            for name in EVENT_KEYS
        )
        yield "\n[listen]"
        yield from (f'{name} = "127.0.0.1:{getattr(self.ports, name)}"' for name in ("check", "pages", "ops"))
        yield ""


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n", "utf-8")

"""Turn a page's name and its context into an answer for a browser."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from jinja2 import BaseLoader, ChoiceLoader, DictLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from jinja2 import TemplateError as JinjaError
from multidict import CIMultiDict

from gateway.pages.language import Language, choose
from gateway.pages.links import link, plain_state
from gateway.pages.texts import BUILT_IN, load

OPTIONAL: Mapping[str, Mapping[str, object]] = {
    "denied": {"reason": "", "user_id": "", "name": "", "rule": "", "asks": (), "contact": ""},
    "failed": {"detail": "", "missing": "", "reference": "", "retry_url": "/", "contact": ""},
    "loop": {"expected": "", "found": "", "retry_url": "/", "reference": ""},
    "window": {"kind": "foreign"},
    "signed_out": {"later": False},
    "glass": {"name": ""},
    "logout": {"user_id": "", "name": "", "action": "/_wecom/logout"},
}
"""What a caller may leave out, by page; anything else missing is an error."""

_SCRIPT_CONNECTS = frozenset({"window"})
_POSTS = frozenset({("logout", None), ("glass", None), ("window", "form")})
"""Pages whose POST must carry its own Origin: with ``no-referrer`` a browser says ``Origin: null`` (Fetch, 3.2)."""

_ANCESTORS = re.compile(r"'none'|(?:'self'|[A-Za-z0-9.:/*\[\]-]+)(?: (?:'self'|[A-Za-z0-9.:/*\[\]-]+))*")
_log = logging.getLogger(__name__)


class Pages:
    """The pages in both languages; *templates* is a folder whose templates and texts replace ours by name.

    An own template may begin with ``{% extends "builtin/failed.html" %}`` to change only a block. A broken one is
    reported in the log, and ours is shown.
    """

    def __init__(self, templates: Path | None = None) -> None:
        self._texts = {name: load(name, templates, _log.error) for name in ("zh", "en")}
        ours = FileSystemLoader(BUILT_IN / "templates")
        self._ours = _environment(ours)
        self._first = self._ours if templates is None else _with_own(ours, templates)
        self._reported: set[str] = set()

    def language(self, accept_language: str) -> Language:
        return choose(accept_language)

    def render(
        self,
        name: str,
        /,
        *,
        language: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        frame_ancestors: str = "'none'",
        **context: object,
    ) -> web.Response:
        """Answer with the page *name*; *frame_ancestors* is the CSP source list of those who may frame it."""
        nonce = secrets.token_urlsafe(16)
        texts = self._texts.get(language, self._texts["zh"])
        values = {**OPTIONAL.get(name, {}), **context, "status": status, "page": name, "nonce": nonce, "t": texts}
        return web.Response(
            body=self._html(f"{name}.html", values).encode("utf-8", "replace"),
            status=status,
            headers=_headers(
                headers,
                policy=_policy(nonce, frame_ancestors, connects=name in _SCRIPT_CONNECTS),
                referrer="same-origin" if (name, values.get("kind")) in _POSTS else "no-referrer",
            ),
        )

    def _html(self, template: str, values: Mapping[str, object]) -> str:
        if self._first is not self._ours:
            try:
                return self._first.get_template(template).render(values)
            except Exception:  # whatever an operator's template does, people see a page
                if template not in self._reported:
                    self._reported.add(template)
                    _log.exception("own template for %s failed; the built-in page is shown", template)
        return self._ours.get_template(template).render(values)


def _environment(loader: BaseLoader) -> Environment:
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"link": link, "state": plain_state}
    return environment


def _with_own(ours: FileSystemLoader, folder: Path) -> Environment:
    """Read the operator's templates once; those that cannot be compiled are left out: ours stand in for them."""
    checker, known, own = _environment(ours), set(ours.list_templates()), {}
    for path in sorted(folder.glob("*.html")):
        try:
            source = path.read_text(encoding="utf-8")
            checker.compile(source, path.name)
        except (OSError, ValueError, JinjaError) as error:
            _log.error("template %s is not used: %s", path, error)
            continue
        own[path.name] = source
        if path.name not in known:
            _log.warning("template %s replaces none of ours: %s", path, ", ".join(sorted(known)))
    if not folder.is_dir():
        _log.error("the folder of templates %s is not there; the built-in pages are shown", folder)
    return _environment(ChoiceLoader([DictLoader(own), ours, PrefixLoader({"builtin": ours})]))


def _policy(nonce: str, frame_ancestors: str, *, connects: bool) -> str:
    ancestors = frame_ancestors if _ANCESTORS.fullmatch(frame_ancestors) else "'none'"
    connect = "connect-src 'self'; " if connects else ""
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; {connect}"
        f"form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    )


def _headers(extra: Mapping[str, str] | None, *, policy: str, referrer: str) -> CIMultiDict[str]:
    headers = CIMultiDict(extra or {})
    headers.update(
        {
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "Referrer-Policy": referrer,
            "X-Content-Type-Options": "nosniff",
            "X-Robots-Tag": "noindex",
        }
    )
    return headers

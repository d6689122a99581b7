"""What can go wrong, as a tree; a caller catches at the width it needs.

::

    GatewayError                 carries ``reason``: the word in header, log, metric, page and test
    ├── ConfigError              the settings hold mistakes; ``problems`` lists all of them
    ├── SignInNeeded             401: no session that opens, or one that must be renewed
    ├── Denied                   403: somebody known, not allowed here
    ├── LoginFailed              a sign-in ended without a session; a page explains
    └── WeComError               WeCom did not give what was asked
        ├── WeComUnreachable     no answer, or no sense in it: timeout, closed, HTML, truncated
        ├── WeComBusy            -1, 45009, 45033 after the retries allowed
        └── WeComRefused         an ``errcode``; final
            ├── CodeSpent        the OAuth code is used, old or made up: sign in again
            ├── TicketSpent      the user_ticket is used, old or made up: go on without details
            ├── MemberUnknown    the member is gone, or outside the app's visible scope
            ├── NotVisible       a department or tag is gone, or not for this app to see
            └── AppMisconfigured the operator must change a setting here or in WeCom's console
"""

from __future__ import annotations


class GatewayError(Exception):
    """Anything this package raises on purpose; ``reason`` is a stable slug."""

    reason = "internal"
    return_to = "/"  #: where the person wanted to go, as far as known

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        if reason is not None:
            self.reason = reason
        super().__init__(message or self.reason)


class ConfigError(GatewayError):
    """Settings that cannot be used; ``problems`` are sentences, each naming its setting."""

    reason = "config"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class SignInNeeded(GatewayError):
    """Answered 401: why a session does not open.

    ``no-session``, ``forged``, ``expired``, ``idle``, ``renew``, ``stale``, ``unverified``, ``revoked``, ``signed-out``;
    for a machine ``token-forged``, ``token-expired``, ``token-revoked``.
    """

    reason = "no-session"

    def __init__(self, reason: str, *, rule: str = "") -> None:
        self.rule = rule  #: with ``stale``: the rule that could not be told for this session
        super().__init__(reason=reason)


class Denied(GatewayError):
    """Answered 403: ``other-site``, ``rule``, ``bad-rule``, ``internal``; ``rule`` is the rule as written in nginx."""

    reason = "rule"

    def __init__(self, reason: str, *, rule: str = "", message: str = "") -> None:
        self.rule = rule
        super().__init__(message, reason=reason)


class LoginFailed(GatewayError):
    """A sign-in that gives no session; ``reason`` chooses the page, ``return_to`` is where the person wanted to go.

    ``missing`` is shown to the person: the field of the address book that is empty.
    """

    def __init__(self, reason: str, *, message: str = "", return_to: str = "/", user_id: str = "", missing: str = "") -> None:
        self.missing = missing
        self.return_to = return_to
        self.user_id = user_id
        super().__init__(message, reason=reason)


class WeComError(GatewayError):
    """WeCom did not give what was asked."""

    reason = "wecom"


class WeComUnreachable(WeComError):
    """No answer in time, a broken one, or one that is not WeCom's JSON."""

    reason = "wecom-unreachable"


class WeComBusy(WeComError):
    """WeCom asks to come back later (-1, 45009, 45033); ``fix`` as in :class:`WeComRefused`."""

    reason = "wecom-busy"

    def __init__(self, message: str = "", *, errcode: int = -1, fix: str = "") -> None:
        self.errcode = errcode
        self.fix = fix
        super().__init__(message)


class WeComRefused(WeComError):
    """A final ``errcode``; ``errmsg`` is WeCom's text with its hint, ``fix`` tells the operator what to change, or is empty."""

    reason = "wecom-refused"

    def __init__(self, errcode: int, errmsg: str, *, fix: str = "") -> None:
        self.errcode = errcode
        self.errmsg = errmsg
        self.fix = fix
        super().__init__(f"{errcode} {errmsg}")


class CodeSpent(WeComRefused):
    """40029, 42003, 42022, 41008: start the sign-in again."""

    reason = "code-spent"


class TicketSpent(WeComRefused):
    """84014, 84015, 84090, 92000, 92001: no sensitive details this time."""

    reason = "ticket-spent"


class MemberUnknown(WeComRefused):
    """60111, 60011, 60021, 50002, 40003, 46004: gone or outside the visible scope."""

    reason = "out-of-scope"


class NotVisible(WeComRefused):
    """60003, 60011, 60123, 40068, 81011 about a department or tag: gone, or not for this app to see."""


class AppMisconfigured(WeComRefused):
    """60020, 40001, 40013, 50001, 50003, 301002 and the like: the operator must act; nobody's access is judged by it."""

    reason = "wecom-setup"

"""The desktop login page: scan, confirm, cancel, expire, quick login."""

from __future__ import annotations

import json

import pytest

OLD_PAGE = "/wwopen/sso/qrConnect"


def key_of(page):
    return page.text.split('name="key" value="')[1].split('"')[0]


async def test_page_offers_everybody(client, sandbox):
    """The page has a button for each member and outsider, and for cancel, expire, quick login."""
    page = await client.weblogin()

    assert (page.status, page.page) == (200, "qr")
    for name in (*(f"scan-{one.userid}" for one in sandbox.state.members.values()), "cancel", "expire", "quick-login"):
        assert f'id="{name}"' in page.text


@pytest.mark.parametrize("path", ["/wwlogin/sso/login", OLD_PAGE])
async def test_scan(client, path):
    """Scanning comes back with code, state and appid, and the code has no ticket."""
    came = await client.press(await client.weblogin(path), action="quick")

    assert came.query.keys() == {"code", "state", "appid"}
    assert (came.query["state"], came.query["appid"]) == ("abc123", "ww0123456789abcdef")
    assert await client.call("auth/getuserinfo", code=came.query["code"]) == {
        "errcode": 0,
        "errmsg": "ok",
        "userid": "zhangsan",
    }


async def test_scan_as(client):
    """The button decides who scans; the quick login is who holds the client."""
    page = await client.weblogin()
    scanned = await client.page("/wwlogin/sso/act", form={"key": key_of(page), "member": "Li.Na@Example"})
    quick = await client.press(await client.weblogin(), "wangwu", action="quick")
    people = [await client.call("auth/getuserinfo", code=came.query["code"]) for came in (scanned, quick)]

    assert [person["userid"] for person in people] == ["Li.Na@Example", "wangwu"]


async def test_cancel_comes_back_with_the_state_only(client):
    """A refused login brings the state and nothing else."""
    came = await client.press(await client.weblogin(), action="cancel")

    assert came.location == "https://sso.example.com/_wecom/callback/abc?state=abc123"


async def test_cancel_by_choice(client, sandbox):
    """Where switched, a refused login stays on the page with a new code."""
    sandbox.state.switches.cancel_redirects = False
    page = await client.weblogin()
    came = await client.press(page, action="cancel")

    assert came.page == "qr"
    assert "已取消登录" in came.text
    assert key_of(came) != key_of(page)


async def test_expire_gives_a_new_code(client):
    """An expired QR code is replaced, the old one useless, the new one good."""
    page = await client.weblogin()
    renewed = await client.press(page, action="expire")
    old = await client.press(page, action="quick")
    new = await client.press(renewed, action="quick")

    assert (renewed.page, old.page, new.status) == ("qr", "qr", 302)


async def test_qr_code_ends_by_the_clock(client, clock):
    """A QR code is good for 300 s."""
    page = await client.weblogin()
    clock.now += 300

    assert (await client.press(page, action="quick")).page == "qr"


async def test_qr_code_is_good_once(client):
    """A QR code that was scanned is not good a second time."""
    page = await client.weblogin()
    await client.press(page, action="quick")

    assert (await client.press(page, action="quick")).page == "qr"


@pytest.mark.parametrize("member", ["zhaoliu", "nobody"])
async def test_scan_by_somebody_else(client, member):
    """A member out of scope sees 无权限 and nobody unknown gets further; no callback is made."""
    page = await client.weblogin()
    came = await client.page("/wwlogin/sso/act", form={"key": key_of(page), "member": member})

    assert (came.status, came.location) == (200, "")
    assert came.page in ("out-of-scope", "nobody")


@pytest.mark.parametrize(
    ("changed", "page"),
    [
        ({"login_type": None}, "param_err"),
        ({"login_type": "ServiceApp"}, "param_err"),
        ({"agentid": None}, "param_err"),
        ({"agentid": "7"}, "param_err"),
        ({"agentid": "2000002"}, "param_err"),
        ({"appid": "wwffffffffffffffff"}, "param_err"),
        ({"state": "a.b"}, "84025"),
        ({"redirect_uri": "https://sso.example.com:443/"}, "domain_err"),
        ({"redirect_uri": "sso.example.com"}, "param_err"),
    ],
    ids=str,
)
async def test_bad_parameters(client, changed, page):
    """Wrong parameters and domains end on a page."""
    assert (await client.weblogin(**changed)).page == page


async def test_disabled_app_has_no_login(client, sandbox):
    """A disabled app ends on a page."""
    sandbox.state.app.enabled = False

    assert (await client.weblogin()).page == "disabled-app"


async def test_callback_domain_of_its_own(client, sandbox):
    """The web-login callback domain is accepted here beside the trusted domain, and not in the app."""
    sandbox.state.app.weblogin_domain = "login.example.com:8443"
    uri = "https://login.example.com:8443/cb"
    came = await client.press(await client.weblogin(redirect_uri=uri), action="quick")
    in_app = await client.authorize(redirect_uri=uri)

    assert (await client.call("auth/getuserinfo", code=came.query["code"]))["errcode"] == 0
    assert in_app.page == "domain_err"


async def test_old_page_needs_no_login_type(client):
    """The old page takes the same parameters without login_type."""
    assert (await client.weblogin(OLD_PAGE, login_type=None)).page == "qr"


async def poll(client, key, **query):
    url = f"{client.sandbox.url}/wwopen/sso/l/qrConnect"
    async with client.http.get(url, params={"key": key, **query}) as answer:
        return await answer.text()


async def test_phone_confirms(client):
    """A second device scans and confirms; the page hears by its poll where to go."""
    key = key_of(await client.weblogin())
    waiting = json.loads(await poll(client, key))
    asked = await client.page("/wwopen/sso/confirm2", f"k={key}&notretry=yes", member="lisi")
    scanned = json.loads(await poll(client, key))
    done = await client.page("/wwopen/sso/confirm2", form={"key": key, "action": "confirm"}, member="lisi")
    confirmed = json.loads(await poll(client, key))

    assert (asked.page, done.page) == ("confirm", "confirmed")
    assert (waiting["status"], scanned["status"]) == ("QRCODE_SCAN_NEVER", "QRCODE_SCAN_ING")
    assert confirmed["status"] == "QRCODE_SCAN_SUCC"
    assert f"code={confirmed['auth_code']}&state=abc123&appid=" in confirmed["location"]


async def test_phone_cancels(client):
    """A second device cancels; the page comes back with the state only."""
    key = key_of(await client.weblogin())
    await client.page("/wwopen/sso/confirm2", f"k={key}")
    done = await client.page("/wwopen/sso/confirm2", form={"key": key, "action": "cancel"})
    cancelled = json.loads(await poll(client, key))
    again = await client.page("/wwopen/sso/confirm2", f"k={key}")

    assert (done.page, cancelled["status"], again.page) == ("cancelled", "QRCODE_SCAN_FAIL", "expired")
    assert cancelled["location"].endswith("?state=abc123")


async def test_phone_out_of_scope(client):
    """A member out of scope sees 无权限 on the phone, and the page goes on waiting."""
    key = key_of(await client.weblogin())
    came = await client.page("/wwopen/sso/confirm2", f"k={key}", member="zhaoliu")

    assert came.page == "out-of-scope"
    assert json.loads(await poll(client, key))["status"] == "QRCODE_SCAN_NEVER"


async def test_phone_with_unknown_key(client):
    """A key that does not exist is an expired code, and so is an answer nobody was asked for."""
    key = key_of(await client.weblogin())
    unknown = await client.page("/wwopen/sso/confirm2", "k=unknown")
    unasked = await client.page("/wwopen/sso/confirm2", form={"key": key, "action": "confirm"})

    assert (unknown.page, unasked.page) == ("expired", "expired")
    assert json.loads(await poll(client, "unknown"))["status"] == "QRCODE_SCAN_ERR"


async def test_poll_as_script(client, clock):
    """The poll answers as JSONP where a callback is named, plain JSON where the name is no name; it tells of the end."""
    key = key_of(await client.weblogin())
    clock.now += 300
    script, plain = await poll(client, key, callback="jsonpCallback"), await poll(client, key, callback="alert(1)")

    assert script == 'jsonpCallback({"status": "QRCODE_SCAN_ERR", "auth_code": ""})'
    assert json.loads(plain)["status"] == "QRCODE_SCAN_ERR"


async def test_picture(client):
    """The QR code is a picture of its own for each key."""
    pictures = []
    for key in ("a", "b"):
        async with client.http.get(f"{client.sandbox.url}/wwopen/sso/qrImg", params={"key": key}) as answer:
            assert answer.content_type == "image/svg+xml"
            pictures.append(await answer.text())

    assert pictures[0] != pictures[1]

"""The in-app authorize page: who is sent back, with what, and who sees a page instead."""

from __future__ import annotations

import pytest

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36"
WECHAT = "Mozilla/5.0 (iPhone) Mobile/15E148 MicroMessenger/6.1.5 NetType/WIFI"
CONSENT = {"scope": "snsapi_privateinfo"}


async def test_silent_redirect(client):
    """The WeCom client is sent straight back with code and state, and no appid."""
    came = await client.authorize()

    assert (came.status, came.query.keys()) == (302, {"code", "state"})
    assert came.location.startswith("https://sso.example.com/_wecom/callback/abc?code=")
    assert (len(came.query["code"]), came.query["state"]) == (43, "abc123")


async def test_own_query_and_fragment_are_kept(client):
    """redirect_uri keeps its query, and code goes before its fragment."""
    came = await client.authorize(redirect_uri="https://sso.example.com/cb?action=get#/route")
    start, _, rest = came.location.partition("&code=")

    assert start == "https://sso.example.com/cb?action=get"
    assert rest.endswith("&state=abc123#/route")


async def test_empty_state_is_echoed(client):
    """Without a state an empty one comes back."""
    assert (await client.authorize(state=None)).location.endswith("&state=")


async def test_member_of_the_cookie(client):
    """The cookie names the member, whatever the letter case and characters."""
    code = await client.code(member="li.na@example")

    assert (await client.call("auth/getuserinfo", code=code))["userid"] == "Li.Na@Example"


async def test_member_of_the_query(client):
    """The query names the member too, and wins."""
    query = client.authorize_query() + "&sandbox_member=lisi"
    came = await client.page("/connect/oauth2/authorize", query, member="wangwu")

    assert (await client.call("auth/getuserinfo", code=came.query["code"]))["userid"] == "lisi"


async def test_unknown_member(client):
    """A cookie that names nobody is a page, not somebody else."""
    assert (await client.authorize(member="nobody")).page == "nobody"


async def test_browser_sees_a_page(client, sandbox):
    """An ordinary browser is told to open the client, unless every browser is let in."""
    stopped = await client.authorize(agent=BROWSER)
    sandbox.state.switches.any_browser = True
    through = await client.authorize(agent=BROWSER)

    assert (stopped.status, stopped.page, stopped.location) == (200, "open-in-client", "")
    assert through.status == 302


async def test_wechat_is_a_visitor(client):
    """Personal WeChat comes back as an openid; a member who linked it as the member."""
    visitor = (await client.authorize(agent=WECHAT)).query["code"]
    linked = (await client.authorize(agent=WECHAT, member="lisi")).query["code"]

    assert "openid" in await client.call("auth/getuserinfo", code=visitor)
    assert (await client.call("auth/getuserinfo", code=linked))["userid"] == "lisi"


@pytest.mark.parametrize("agent", ["x wxwork/3.1 (MicroMessenger/6.2)", "wxworklocal/3.2.200 wwlocal/3.2.200"])
async def test_wecom_clients(client, agent):
    """Desktop and private clients are WeCom, though most also say MicroMessenger."""
    code = (await client.authorize(agent=agent)).query["code"]

    assert (await client.call("auth/getuserinfo", code=code))["userid"] == "zhangsan"


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("https://sso.example.com:443/cb", "domain_err"),
        ("https://www.sso.example.com/cb", "domain_err"),
        ("https://example.com/cb", "domain_err"),
        ("https://user@sso.example.com/cb", "domain_err"),
        ("ftp://sso.example.com/cb", "param_err"),
        ("/cb", "param_err"),
        ("", "param_err"),
        ("https://[bad/cb", "param_err"),
        ("https://sso.example.com/c b", "param_err"),
        ("https://sso.example.com/\r\nX: y", "param_err"),
        ("https://sso.example.com/cb?next=jms://host", "param_err"),
        ("https://sso.example.com/cb?next=jms%3A%2F%2Fhost", "param_err"),
    ],
)
async def test_bad_redirect_uri(client, uri, page):
    """A redirect_uri of another host[:port], or one WeCom cannot read, ends on a page."""
    came = await client.authorize(redirect_uri=uri)

    assert (came.status, came.page, came.location) == (200, page, "")


@pytest.mark.parametrize(
    "raw",
    ["https://sso.example.com/cb", "https%253A%252F%252Fsso.example.com%252Fcb", "https%3A%2F%2Fsso.example.com%2F%ff"],
    ids=["plain", "twice", "not-utf8"],
)
async def test_badly_encoded_redirect_uri(client, raw):
    """A redirect_uri encoded not at all, twice, or from no text is a parameter error."""
    query = client.authorize_query(redirect_uri=None) + f"&redirect_uri={raw}"

    assert (await client.page("/connect/oauth2/authorize", query)).page == "param_err"


async def test_scheme_case_and_path_do_not_matter(client):
    """http or https, any path, and the host in any case match the trusted domain."""
    for uri in ("http://sso.example.com/", "https://SSO.Example.com/a/b?c=d"):
        assert (await client.authorize(redirect_uri=uri)).status == 302


async def test_port_of_the_trusted_domain(client, sandbox):
    """A trusted domain with a port wants that port."""
    sandbox.state.app.oauth_domain = "sso.example.com:8443"
    without, with_port = [
        await client.authorize(redirect_uri=uri) for uri in ("https://sso.example.com/cb", "https://sso.example.com:8443/cb")
    ]

    assert (without.page, with_port.status) == ("domain_err", 302)


async def test_nested_url_by_choice(client, sandbox):
    """An http URL inside redirect_uri passes unless switched off."""
    uri = "https://sso.example.com/cb?next=https://a.example.com/"
    lenient = await client.authorize(redirect_uri=uri)
    sandbox.state.switches.nested_urls = False
    strict = await client.authorize(redirect_uri=uri)

    assert (lenient.status, strict.page) == (302, "param_err")


@pytest.mark.parametrize(
    "changed",
    [
        {"appid": "wwffffffffffffffff"},
        {"appid": None},
        {"response_type": "token"},
        {"response_type": None},
        {"scope": "openid"},
        {"agentid": "null"},
        {"agentid": "7"},
    ],
    ids=str,
)
async def test_bad_parameters(client, changed):
    """Unknown corp, app, scope or response type end on a page."""
    assert (await client.authorize(**changed)).page == "param_err"


async def test_parameters_in_any_order(client):
    """The order of parameters does not matter."""
    query = "&".join(reversed(client.authorize_query().split("&")))

    assert (await client.page("/connect/oauth2/authorize", query)).status == 302


@pytest.mark.parametrize("state", ["a-b", "a" * 129, "状态"])
async def test_state_rules(client, sandbox, state):
    """A state of other characters or over 128 is 84025, unless lenient, which passes it on."""
    strict = await client.authorize(state=state)
    sandbox.state.switches.strict_state = False
    lenient = await client.authorize(state=state)

    assert (strict.page, lenient.query["state"]) == ("84025", state)


async def test_longest_state(client):
    """A state of 128 letters passes."""
    assert (await client.authorize(state="a" * 128)).status == 302


async def test_without_agentid(client, sandbox):
    """Without agentid the trusted domain finds the app, and only apps of that domain may use the code."""
    code = await client.code(agentid=None)
    foreign = await client.api("auth/getuserinfo", access_token=await client.token(1), code=code)
    own = await client.call("auth/getuserinfo", code=code)
    unknown = await client.authorize(agentid=None, redirect_uri="https://elsewhere.example.com/")

    assert (foreign["errcode"], own["userid"], unknown.page) == (50001, "zhangsan", "domain_err")


async def test_disabled_app_authorizes_nobody(client, sandbox):
    """A disabled app ends on a page."""
    sandbox.state.app.enabled = False

    assert (await client.authorize()).page == "disabled-app"


async def test_disabled_member(client, sandbox):
    """A disabled member comes back with a code, as a client still open would, unless stopped."""
    through = await client.authorize(member="qianqi")
    sandbox.state.switches.stop_disabled = True
    stopped = await client.authorize(member="qianqi")

    assert (through.status, stopped.page) == (302, "disabled-member")


async def test_consent_page_asks_for_the_ticked_fields(client, sandbox):
    """privateinfo shows a page with one tick box for each field the admin chose."""
    sandbox.state.app.sensitive_fields = ("mobile", "email")
    came = await client.authorize(**CONSENT)

    assert (came.status, came.page) == (200, "consent")
    assert came.text.count('type="checkbox"') == 2


async def test_partial_consent(client):
    """Agreeing to some fields gives a ticket with these."""
    form = {"decision": "agree", "field": "mobile"}
    code = (await client.authorize(**CONSENT, form=form)).query["code"]
    ticket = (await client.call("auth/getuserinfo", code=code))["user_ticket"]
    detail = await client.call("auth/getuserdetail", body={"user_ticket": ticket})

    assert detail["mobile"] == "13800010001"
    assert "email" not in detail


async def test_consent_is_remembered_thirty_days(client, clock):
    """After an answer there is no page for 30 days."""
    await client.authorize(**CONSENT, form={"decision": "agree", "field": "mobile"})
    clock.now += 30 * 86400 - 1
    remembered = await client.authorize(**CONSENT)
    clock.now += 1
    asked = await client.authorize(**CONSENT)

    assert (remembered.status, asked.page) == (302, "consent")


async def test_refused_consent(client):
    """A refusal gives a ticket without private fields, and is remembered."""
    await client.authorize(**CONSENT, form={"decision": "refuse", "field": "mobile"})
    code = await client.code(**CONSENT)
    ticket = (await client.call("auth/getuserinfo", code=code))["user_ticket"]
    detail = await client.call("auth/getuserdetail", body={"user_ticket": ticket})

    assert detail.keys() == {"errcode", "errmsg", "userid", "gender", "avatar"}
    assert "DefaultAvatar" in detail["avatar"]


@pytest.mark.parametrize(("switch", "page", "query"), [("no-code", "", {"state"}), ("nothing", "refused", set())])
async def test_refused_consent_by_choice(client, sandbox, switch, page, query):
    """A refusal can come back without a code, or not at all."""
    sandbox.state.switches.refused_consent = switch
    came = await client.authorize(**CONSENT, form={"decision": "refuse"})

    assert (came.page, set(came.query)) == (page, query)


async def test_privateinfo_out_of_scope(client):
    """privateinfo for a member out of scope is a page; the base scope is not."""
    private = await client.authorize(**CONSENT, member="zhaoliu")
    base = await client.authorize(member="zhaoliu")

    assert (private.page, base.status) == ("out-of-scope", 302)


async def test_privateinfo_without_agentid(client, sandbox):
    """privateinfo without agentid is the base scope, or a page where switched."""
    code = await client.code(**CONSENT, agentid=None)
    answer = await client.call("auth/getuserinfo", code=code)
    sandbox.state.switches.privateinfo_without_agentid = "error"
    refused = await client.authorize(**CONSENT, agentid=None)

    assert "user_ticket" not in answer
    assert refused.page == "param_err"


async def test_extra_callback_query(client, sandbox):
    """Extra query parameters are appended where switched."""
    sandbox.state.switches.extra_callback_query = "uin=1&key=2"

    assert (await client.authorize()).query.keys() == {"code", "state", "uin", "key"}


async def test_double_callback(client, sandbox):
    """Where switched, a page navigates twice to one callback."""
    sandbox.state.switches.double_callback = True
    came = await client.authorize()

    assert (came.page, len(sandbox.state.codes)) == ("twice", 1)
    assert came.text.count("location.href = onward") == 2


async def test_fragment_by_choice(client, sandbox):
    """Where switched, a page looks for #wechat_redirect before it goes on."""
    sandbox.state.switches.check_fragment = True
    asked = await client.authorize()
    passed = await client.page("/connect/oauth2/authorize", client.authorize_query() + "&sandbox_fragment=1")

    assert (asked.page, passed.status) == ("fragment", 302)


async def test_phone_page(client):
    """The phone page sets the cookie of the chosen member, and of nobody unknown."""
    shown = await client.page("/", member="lisi")
    chosen = await client.page("/", form={"member": "Li.Na@Example"})
    unknown = await client.page("/", form={"member": "<script>"})

    assert 'id="be-lisi" name="member" value="lisi" class="main"' in shown.text
    assert [came.status for came in (chosen, unknown)] == [303, 303]


async def test_pages_need_nothing_from_outside(client):
    """No page loads anything from another host."""
    pages = [await client.page("/"), await client.weblogin(), await client.authorize(agent=BROWSER)]

    for page in pages:
        assert "src=" not in page.text
        assert "http" not in page.text.replace("http://www.w3.org/2000/svg", "")

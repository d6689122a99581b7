"""An independent SDK (wechatpy) works against the sandbox as it does against the real WeCom."""

from __future__ import annotations

import asyncio
import re
import warnings
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK predates this Python
    from wechatpy.enterprise import WeChatClient, parse_message
    from wechatpy.enterprise.crypto import WeChatCrypto
    from wechatpy.exceptions import APILimitedException, WeChatClientException

pytestmark = pytest.mark.filterwarnings("ignore:`_(get|post)` method of `WeChatClient`:DeprecationWarning")

REAL = "https://qyapi.weixin.qq.com"


class ToSandbox(HTTPAdapter):
    """Carries what the SDK sends to the real address to the sandbox."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__()

    def send(self, request, *args, **kwargs):
        request.url = request.url.replace(REAL, self.url, 1)
        return super().send(request, *args, **kwargs)


@pytest.fixture
def sdk(sandbox):
    """Return a coroutine that runs a function of the SDK's client in a thread."""
    work = WeChatClient(sandbox.state.corp_id, sandbox.state.secret)
    work._http.trust_env = False
    work._http.mount(f"{REAL}/", ToSandbox(sandbox.url))

    async def ask(function):
        return await asyncio.to_thread(function, work)

    yield ask
    work._http.close()


async def test_token(sdk, sandbox):
    """The SDK fetches one token for many calls."""
    for _ in range(3):
        await sdk(lambda work: work.tag.list())

    assert sandbox.state.count("gettoken") == 1


async def test_token_is_renewed(sdk, sandbox):
    """The SDK replaces a token that was ended early, and its call succeeds."""
    await sdk(lambda work: work.tag.list())
    sandbox.state.revoke_tokens()
    tags = await sdk(lambda work: work.tag.list())

    assert (len(tags), sandbox.state.count("gettoken")) == (2, 2)


async def test_code(sdk, client):
    """The SDK exchanges a code by either endpoint."""
    old = await client.code(member="lisi")
    current = await client.code(member="wangwu")

    assert (await sdk(lambda work: work.oauth.get_user_info(old)))["UserId"] == "lisi"
    assert (await sdk(lambda work: work.get("auth/getuserinfo", params={"code": current})))["userid"] == "wangwu"


async def test_spent_code(sdk, client):
    """The SDK raises 40029 for a code that was used."""
    code = await client.code()
    await sdk(lambda work: work.oauth.get_user_info(code))
    with pytest.raises(WeChatClientException) as error:
        await sdk(lambda work: work.oauth.get_user_info(code))

    assert error.value.errcode == 40029


async def test_details(sdk, sandbox, client):
    """The SDK posts a ticket and reads private fields."""
    sandbox.state.switches.auto_consent = True
    code = await client.code(scope="snsapi_privateinfo")
    user = await sdk(lambda work: work.get("auth/getuserinfo", params={"code": code}))
    ticket = {"user_ticket": user["user_ticket"]}
    details = await sdk(lambda work: work.post("auth/getuserdetail", data=ticket))

    assert (details["userid"], details["mobile"]) == ("zhangsan", "13800010001")


async def test_member(sdk):
    """The SDK reads a member, and raises 60111 for one out of scope."""
    member = await sdk(lambda work: work.user.get("zhangsan"))
    with pytest.raises(WeChatClientException) as error:
        await sdk(lambda work: work.user.get("zhaoliu"))

    assert (member["name"], member["department"], error.value.errcode) == ("张三", [6], 60111)


async def test_departments_and_their_members(sdk):
    """The SDK lists departments, their members, and maps names to ids."""
    departments = await sdk(lambda work: work.department.get())
    members = await sdk(lambda work: work.department.get_users(5, fetch_child=1))
    names = await sdk(lambda work: work.department.get_map_users())

    assert [one["name"] for one in departments] == ["管理中心", "财务部", "会计组", "技术中心", "研发部", "平台组"]
    assert [one["userid"] for one in members] == ["zhangsan", "wangwu", "qianqi", "sunba"]
    assert names["李娜"] == "Li.Na@Example"


async def test_tags(sdk):
    """The SDK lists tags and their members."""
    users = await sdk(lambda work: work.tag.get_users(1))

    assert users["userlist"] == [{"userid": "wangwu", "name": "王五"}]


async def test_agent(sdk, sandbox):
    """The SDK reads the app with its scope and domain."""
    agent = await sdk(lambda work: work.agent.get(sandbox.state.agent_id))

    assert (agent["redirect_domain"], agent["allow_partys"]["partyid"]) == ("sso.example.com", [2, 5])


async def test_limit(sdk, sandbox):
    """The SDK knows 45009 for what it is."""
    sandbox.state.limits.api_minute = 1
    with pytest.raises(APILimitedException):
        await sdk(lambda work: [work.tag.list(), work.tag.list()])


async def test_authorize_url(sdk, client, sandbox):
    """The authorize URL that the SDK builds is read by the sandbox, and its parameters are the sandbox's own."""
    uri = "https://sso.example.com/_wecom/callback/abc"
    url = await sdk(lambda work: work.oauth.authorize_url(uri, "abc123"))
    parts = urlsplit(url)
    ours = parse_qs(client.authorize_query(redirect_uri=uri, agentid=None))
    came = await client.page(parts.path, parts.query)

    assert (parse_qs(parts.query), parts.fragment) == (ours, "wechat_redirect")
    assert (await client.call("auth/getuserinfo", code=came.query["code"]))["userid"] == "zhangsan"


async def test_event(client, sandbox):
    """The SDK checks, decrypts and parses an event of the sandbox."""
    app = sandbox.state.app
    app.callback_url, app.callback_token = "http://127.0.0.1:1/", "sandboxToken1"
    app.callback_aes_key = "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"
    sandbox.change_member("zhangsan", {"status": 2})
    (delivery,) = sandbox.outbox.deliveries
    crypto = WeChatCrypto(app.callback_token, app.callback_aes_key, app.corp_id)
    query = delivery.query
    message = crypto.decrypt_message(delivery.body, query["msg_signature"], query["timestamp"], query["nonce"])
    event = parse_message(message)

    assert (event.event, event.source, event.target, event.agent) == ("unsubscribe", "zhangsan", app.corp_id, 1000002)


async def test_echo(sandbox):
    """What the sandbox encrypts for the URL check is what the SDK decrypts, and the other way round."""
    app = sandbox.state.app
    app.callback_token, app.callback_aes_key = "sandboxToken1", "4Ma3YBrSBbX2aez8MJpXGBne5LSDwgGqHbhM9WPYIws"
    crypto = WeChatCrypto(app.callback_token, app.callback_aes_key, app.corp_id)
    encrypted = app.envelope.encrypt("94966531020182955848408")
    signature = app.envelope.sign("1", "2", encrypted)
    theirs = re.search(r"<Encrypt><!\[CDATA\[(.*?)\]\]>", crypto.encrypt_message("回复", "2", "1"))[1]

    assert crypto.check_signature(signature, "1", "2", encrypted) == "94966531020182955848408"
    assert app.envelope.decrypt(theirs) == "回复"


async def test_plain_requests_walk_the_chain(sandbox, client):
    """A cookie jar and a WeCom User-Agent walk the in-app chain without any script."""
    url = f"{sandbox.url}/connect/oauth2/authorize?{client.authorize_query()}#wechat_redirect"
    answer = await asyncio.to_thread(requests.get, url, headers={"User-Agent": "wxwork/4.1"}, allow_redirects=False)

    assert (answer.status_code, answer.headers["Location"][:38]) == (302, "https://sso.example.com/_wecom/callbac")

"""The access token: fetched rarely, shared by all, renewed in time, and not asked for in vain."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aiocache import SimpleMemoryCache
from aiohttp import web

from gateway.errors import AppMisconfigured, WeComBusy, WeComUnreachable
from gateway.sandbox import Sandbox
from gateway.wecom import App, Endpoints, WeCom
from gateway.wecom.tokens import Tokens
from gateway.wecom.transport import TRIES
from tests.patience import PATIENCE_S
from tests.wecom.scripted import TOKEN, Client, Clock, Script, closes, good_token, hangs, refusal, says

HOUR = 3600


async def test_200_first_requests_make_one_fetch(sandbox: Sandbox, client: Client) -> None:
    """However many ask at once, WeCom is asked for one token."""
    wecom = client()

    tokens = await asyncio.gather(*(wecom.access_token() for _ in range(200)))

    assert len(set(tokens)) == 1
    assert sandbox.state.count("gettoken") == 1


async def test_200_first_calls_make_one_fetch(sandbox: Sandbox, client: Client) -> None:
    """The same through real calls."""
    wecom = client()

    members = await asyncio.gather(*(wecom.member("zhangsan") for _ in range(200)))

    assert {member.user_id for member in members} == {"zhangsan"}
    assert sandbox.state.count("gettoken") == 1


async def test_a_second_process_uses_the_token_of_the_first(sandbox: Sandbox, client: Client) -> None:
    """The token is shared through the cache."""
    assert await client().access_token() == await client().access_token()
    assert sandbox.state.count("gettoken") == 1


async def test_the_cache_key_tells_apps_apart_and_no_secret(sandbox: Sandbox, client: Client, cache: SimpleMemoryCache) -> None:
    """Two apps of one corp have two tokens, and a key names the corp but never the secret."""
    other = sandbox.state.apps[1]
    mine, theirs = await client().access_token(), await client(other.secret).access_token()
    keys = " ".join(cache._cache)

    assert mine != theirs
    assert sandbox.state.corp_id in keys
    assert sandbox.state.secret not in keys
    assert other.secret not in keys


async def test_a_token_ends_a_minute_early(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """A token is not used in its last minute: a call needs time to arrive."""
    wecom = client()
    first = await wecom.access_token()
    sandbox.state.switches.rotate_tokens = True
    clock.now += 7200 - 59

    assert await wecom.access_token() != first
    assert sandbox.state.count("gettoken") == 2


async def test_a_token_is_renewed_while_it_still_serves(script: Script, wecom: WeCom, clock: Clock) -> None:
    """In the last quarter of an hour callers get the old token at once, and a new one is fetched beside them."""
    go = asyncio.Event()

    async def waits(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return web.json_response(good_token("the-next"))

    script.on("gettoken", says(good_token("the-first")), waits)
    await wecom.access_token()
    clock.now += 7200 - 900
    script.arrived.clear()

    served = [await wecom.access_token() for _ in range(20)]
    await script.wait()
    go.set()

    assert set(served) == {"the-first"}
    await settled()
    assert await wecom.access_token() == "the-next"
    assert script.count("gettoken") == 2


async def settled() -> None:
    """Wait for a fetch beside the callers."""
    fetches = [task for task in asyncio.all_tasks() if task.get_name() == "wecom access token"]
    if fetches:
        await asyncio.wait(fetches)


async def test_a_renewal_that_fails_leaves_the_old_token(script: Script, wecom: WeCom, clock: Clock) -> None:
    """With WeCom down near the end of a token, the old one serves, and WeCom is tried every half minute."""
    script.on("gettoken", says(good_token("the-first")), closes)
    await wecom.access_token()
    clock.now += 7200 - 900

    for _ in range(12):
        assert await wecom.access_token() == "the-first"
        await settled()
        clock.now += 10

    assert script.count("gettoken") == 1 + 4 * TRIES


async def test_the_same_token_again_is_not_fetched_for_ever(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """WeCom may give the same token with what is left of its life: it is kept, and asked for less than once a request."""
    wecom = client()
    first = await wecom.access_token()
    clock.now += 7200 - 300
    for _ in range(50):
        assert await wecom.access_token() == first
        await settled()

    assert sandbox.state.count("gettoken") == 2


async def test_rotated_tokens_are_all_good(sandbox: Sandbox, client: Client) -> None:
    """Nothing depends on a repeated fetch giving the same token."""
    sandbox.state.switches.rotate_tokens = True
    one, other = client(), client(other_cache=SimpleMemoryCache())

    assert await one.access_token() != await other.access_token()
    assert (await one.member("zhangsan")).user_id == (await other.member("zhangsan")).user_id
    assert sandbox.state.count("gettoken") == 2


@pytest.mark.parametrize("errcode", [40001, 40014, 42001], ids=str)
async def test_a_refused_token_is_replaced_once(script: Script, wecom: WeCom, errcode: int) -> None:
    """A token that WeCom no longer takes is dropped, a new one fetched, and the call repeated with it."""
    script.on("gettoken", good_token("the-old"), good_token("the-new"))
    script.on("user/get", refusal(errcode), {"errcode": 0, "userid": "zhangsan"})

    await wecom.member("zhangsan")

    used = [query["access_token"] for path, query in script.asked if path == "user/get"]
    assert used == ["the-old", "the-new"]


@pytest.mark.parametrize("errcode", [40001, 40014, 42001], ids=str)
async def test_a_token_that_stays_refused_is_the_operators_matter(script: Script, wecom: WeCom, errcode: int) -> None:
    """When a fresh token is refused too, the call ends, and further calls do not fetch one each."""
    script.on("user/get", refusal(errcode))

    for _ in range(10):
        with pytest.raises(AppMisconfigured) as refused:
            await wecom.member("zhangsan")
        assert refused.value.errcode == errcode

    assert script.count("gettoken") == 2
    assert script.count("user/get") == 11


async def test_a_curable_token_is_replaced_again_later(script: Script, wecom: WeCom, clock: Clock) -> None:
    """After half a minute a refused token is replaced again."""
    ok = says({"errcode": 0, "userid": "zhangsan"})
    script.on("user/get", says(refusal(40014)), says(refusal(40014)), says(refusal(40014)), ok)
    with pytest.raises(AppMisconfigured):
        await wecom.member("zhangsan")
    clock.now += 30

    assert (await wecom.member("zhangsan")).user_id == "zhangsan"


async def test_a_clock_set_back_does_not_put_that_off(script: Script, wecom: WeCom, clock: Clock) -> None:
    """A clock that was a day ahead then does not keep a refused token until it gets there again."""
    ok = says({"errcode": 0, "userid": "zhangsan"})
    script.on("user/get", says(refusal(40014)), says(refusal(40014)), says(refusal(40014)), ok)
    with pytest.raises(AppMisconfigured):
        await wecom.member("zhangsan")
    clock.now -= 86400

    assert (await wecom.member("zhangsan")).user_id == "zhangsan"


async def test_a_success_allows_replacing_at_once(script: Script, wecom: WeCom) -> None:
    """Once a call has gone through, the next refused token is replaced without delay."""
    bad, ok = says(refusal(40014)), says({"errcode": 0, "userid": "zhangsan"})
    script.on("user/get", bad, bad, ok, bad, ok)
    with pytest.raises(AppMisconfigured):
        await wecom.member("zhangsan")
    await wecom.member("zhangsan")

    assert (await wecom.member("zhangsan")).user_id == "zhangsan"
    assert script.count("gettoken") == 3


async def test_another_trouble_after_replacing_allows_it_again(script: Script, wecom: WeCom) -> None:
    """A new token that meets another refusal was a good one: the next refused token is replaced too."""
    bad, ok = says(refusal(40014)), says({"errcode": 0, "userid": "zhangsan"})
    script.on("user/get", bad, says(refusal(60020)), bad, ok)
    with pytest.raises(AppMisconfigured, match="60020"):
        await wecom.member("zhangsan")

    assert (await wecom.member("zhangsan")).user_id == "zhangsan"


async def test_a_fault_of_our_own_is_logged_and_not_remembered(
    app: App, cache: SimpleMemoryCache, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody thought of reaches the caller and the log, and the next caller is served."""
    answers: list[Any] = [good_token(), RuntimeError("unforeseen")]

    async def fetch() -> dict[str, Any]:
        if isinstance(answer := answers.pop(), RuntimeError):
            raise answer
        return dict(answer)

    tokens = Tokens(app, fetch, cache, clock)
    with pytest.raises(RuntimeError, match="unforeseen"):
        await tokens.get()

    assert await tokens.get() == TOKEN
    assert "fetching an access token failed" in caplog.text


async def test_closing_unused_is_nothing(wecom: WeCom) -> None:
    """A client that was never asked anything closes at once."""
    await wecom.close()


async def test_tokens_ended_early_are_replaced(sandbox: Sandbox, client: Client) -> None:
    """WeCom may end a token before its time; 50 callers who notice at once make one fetch."""
    wecom = client()
    await wecom.member("zhangsan")
    sandbox.state.revoke_tokens()

    members = await asyncio.gather(*(wecom.member("lisi") for _ in range(50)))

    assert {member.name for member in members} == {"李四"}
    assert sandbox.state.count("gettoken") == 2


async def test_another_process_has_replaced_it_already(sandbox: Sandbox, client: Client) -> None:
    """A process whose token is refused looks into the cache before it asks WeCom."""
    one, other = client(), client()
    await one.access_token()
    await other.access_token()
    sandbox.state.revoke_tokens()
    await one.member("zhangsan")
    await other.member("zhangsan")

    assert sandbox.state.count("gettoken") == 2


async def test_a_wrong_secret_is_asked_once_a_while(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """A day with a wrong secret and a call each ten seconds makes few fetches, at growing distances up to an hour."""
    wecom = client("wrong-secret")
    times: list[float] = []
    start = clock.now
    for second in range(0, 86400, 10):
        clock.now = start + second
        with pytest.raises(AppMisconfigured) as refused:
            await wecom.access_token()
        assert refused.value.errcode == 40001
        if sandbox.state.count("gettoken") > len(times):
            times.append(second)

    distances = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert distances[:7] == [60, 120, 240, 480, 960, 1920, 3600]
    assert set(distances[7:]) == {3600}


async def test_200_callers_with_a_wrong_secret_make_one_call(sandbox: Sandbox, client: Client) -> None:
    """A crowd at the door does not get the address banned."""
    wecom = client("wrong-secret")

    results = await asyncio.gather(*(wecom.member("zhangsan") for _ in range(200)), return_exceptions=True)

    assert {type(result) for result in results} == {AppMisconfigured}
    assert sandbox.state.count("gettoken") == 1


async def test_a_second_process_heeds_the_refusal(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """What one process learnt about a wrong secret the others read in the cache, and the waiting time goes on growing."""
    for wait_s in (60, 120, 240):
        for wecom in (client("wrong-secret"), client("wrong-secret")):
            with pytest.raises(AppMisconfigured, match="40001"):
                await wecom.access_token()
        clock.now += wait_s - 1
        with pytest.raises(AppMisconfigured):
            await client("wrong-secret").access_token()
        clock.now += 1

    assert sandbox.state.count("gettoken") == 3


async def test_a_refusal_is_a_problem_until_somebody_has_a_token(sandbox: Sandbox, client: Client) -> None:
    """What WeCom said, with what to fix; a token that another process got ends it, too."""
    ours, another = client(), client()
    assert ours.problems == []
    sandbox.state.app.enabled = False
    with pytest.raises(AppMisconfigured) as refused:
        await ours.access_token()
    told = ours.problems
    sandbox.state.app.enabled = True
    await another._tokens._fetched()
    await ours.access_token()

    assert told == [f"gettoken: {refused.value}; to fix: {refused.value.fix}"]
    assert ours.problems == []


async def test_a_new_secret_is_tried_at_once(sandbox: Sandbox, client: Client) -> None:
    """The operator who corrects the secret does not wait for anything."""
    with pytest.raises(AppMisconfigured):
        await client("wrong-secret").access_token()

    assert await client().access_token()


async def test_an_app_enabled_again_recovers(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """A cure in the admin console is noticed when the waiting time is over, and the next refusal waits a minute again."""
    wecom = client()
    sandbox.state.app.enabled = False
    with pytest.raises(AppMisconfigured):
        await wecom.access_token()
    sandbox.state.app.enabled = True
    with pytest.raises(AppMisconfigured):
        await wecom.access_token()
    clock.now += 60
    await wecom.member("zhangsan")
    sandbox.state.app.enabled = False
    sandbox.state.revoke_tokens()
    with pytest.raises(AppMisconfigured):
        await wecom.member("zhangsan")
    sandbox.state.app.enabled = True
    clock.now += 60

    assert (await wecom.member("zhangsan")).user_id == "zhangsan"


async def test_a_frequency_limit_on_tokens_is_heeded(script: Script, wecom: WeCom, clock: Clock) -> None:
    """45009 on gettoken is waited out like a wrong secret, and stays "busy"."""
    script.on("gettoken", refusal(45009, "api freq out of limit"), good_token())

    for _ in range(10):
        with pytest.raises(WeComBusy) as busy:
            await wecom.access_token()
        assert busy.value.errcode == 45009
        assert str(busy.value).startswith("45009 api freq out of limit")
    clock.now += 60

    assert await wecom.access_token() == TOKEN
    assert script.count("gettoken") == 2


async def test_an_unreachable_wecom_is_tried_anew(script: Script, wecom: WeCom) -> None:
    """A network fault is not remembered: the next caller tries again."""
    script.on("gettoken", closes, closes, closes, says(good_token()))
    with pytest.raises(WeComUnreachable):
        await wecom.access_token()

    assert await wecom.access_token() == TOKEN


async def test_a_caller_who_leaves_does_not_stop_the_fetch(script: Script, wecom: WeCom) -> None:
    """A browser that goes away cancels its own request and nobody else's."""
    go = asyncio.Event()

    async def waits(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return web.json_response(good_token())

    script.on("gettoken", waits)
    leaves, stays = asyncio.create_task(wecom.access_token()), asyncio.create_task(wecom.access_token())
    await script.wait()
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    go.set()

    assert await stays == TOKEN
    assert script.count("gettoken") == 1


async def test_a_fetch_left_by_all_is_kept(script: Script, wecom: WeCom) -> None:
    """Even when everybody has left, the token that arrives serves the next."""
    go = asyncio.Event()

    async def waits(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return web.json_response(good_token())

    script.on("gettoken", waits)
    leaves = asyncio.create_task(wecom.access_token())
    await script.wait()
    leaves.cancel()
    await asyncio.wait([leaves])
    go.set()

    assert await wecom.access_token() == TOKEN
    assert script.count("gettoken") == 1


async def test_closing_ends_a_fetch_under_way(script: Script, wecom: WeCom) -> None:
    """At the end of the process nothing is left hanging."""
    script.on("gettoken", hangs)
    asking = asyncio.create_task(wecom.access_token())
    await script.wait()

    await wecom.close()

    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize(
    "answer",
    [
        {**good_token(), "access_token": ""},
        {**good_token(), "access_token": None},
        {**good_token(), "access_token": 7},
        {**good_token(), "access_token": "a\nb"},
        {**good_token(), "access_token": "口令"},
        {**good_token(), "expires_in": "7200"},
        {**good_token(), "expires_in": True},
        {**good_token(), "expires_in": 0},
        {**good_token(), "expires_in": -1},
        {**good_token(), "expires_in": None},
        {**good_token(), "expires_in": 7200.5},
    ],
    ids=lambda answer: f"{answer['access_token']!r} {answer['expires_in']!r}",
)
async def test_a_token_of_the_wrong_shape_is_no_token(script: Script, wecom: WeCom, answer: dict[str, Any]) -> None:
    """A gettoken answer that makes no sense is WeCom talking nonsense, and is not kept."""
    script.on("gettoken", answer, good_token())
    with pytest.raises(WeComUnreachable):
        await wecom.access_token()

    assert await wecom.access_token() == TOKEN


async def test_an_endless_life_is_not_believed(script: Script, wecom: WeCom, clock: Clock) -> None:
    """A token is renewed after two hours whatever its answer promised."""
    script.on("gettoken", good_token("the-first", 10**12), good_token("the-next"))
    await wecom.access_token()
    assert await wecom.access_token() == "the-first"
    clock.now += 7200

    assert await wecom.access_token() == "the-next"


class LostCache(SimpleMemoryCache):  # type: ignore[misc]
    """A cache whose backend is away."""

    async def _get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("redis is away")

    _set = _delete = _get


async def test_without_the_cache_tokens_still_work(client: Client, sandbox: Sandbox) -> None:
    """A lost cache costs a fetch in each process, and no sign-in."""
    wecom = client(other_cache=LostCache())

    await asyncio.gather(*(wecom.member("zhangsan") for _ in range(20)))

    assert sandbox.state.count("gettoken") == 1


@pytest.mark.parametrize(
    "stored",
    [None, "text", 7, [], {}, {"text": "x"}, {"text": 1, "renew_at": 1, "ends_at": 1}, {"text": "x", "ends_at": "soon"}],
    ids=repr,
)
async def test_nonsense_in_the_cache_is_passed_over(
    sandbox: Sandbox, client: Client, cache: SimpleMemoryCache, stored: object
) -> None:
    """What another version or program left under our keys does no harm."""
    with pytest.raises(AppMisconfigured):
        await client("wrong-secret").access_token()
    await client().access_token()
    for key in list(cache._cache):
        await cache.set(key, stored)

    assert await client().access_token()
    with pytest.raises(AppMisconfigured):
        await client("wrong-secret").access_token()
    assert sandbox.state.count("gettoken") == 4


async def test_a_clock_set_back_does_not_keep_a_token_for_ever(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """A stored token whose end lies more than two hours ahead is not trusted."""
    clock.now += 10 * HOUR
    await client().access_token()
    clock.now -= 10 * HOUR
    await client().access_token()

    assert sandbox.state.count("gettoken") == 2


async def test_a_clock_set_back_does_not_prolong_a_refusal(sandbox: Sandbox, client: Client, clock: Clock) -> None:
    """A refusal that seems to come from the future is asked about again."""
    clock.now += 10 * HOUR
    with pytest.raises(AppMisconfigured):
        await client("wrong-secret").access_token()
    clock.now -= 10 * HOUR
    with pytest.raises(AppMisconfigured):
        await client("wrong-secret").access_token()

    assert sandbox.state.count("gettoken") == 2


class Claims:
    """The ledger's claims, as processes share them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, float] = {}

    async def __call__(self, key: str, until: float) -> bool:
        free = self._held.get(key, 0) <= self._clock()
        if free:
            self._held[key] = until
        return free


class TestTurns:
    """Processes that share a cache take turns at fetching the token."""

    @pytest.fixture
    def process(self, app: App, script: Script, http: Any, cache: SimpleMemoryCache, clock: Clock) -> Any:
        """Makes clients that share cache and claims; their pauses pass on the test's clock, and leave a real fetch its time."""
        claims, endpoints = Claims(clock), Endpoints(api=script.url, timeout_s=PATIENCE_S)

        def made(fetch_s: float = 0.5) -> WeCom:
            async def pause(seconds: float) -> None:
                clock.now += seconds
                await asyncio.sleep(fetch_s)

            return WeCom(app, endpoints, http, cache, clock, pause=pause, claim=claims)

        return made

    async def test_one_of_ten_processes_fetches(self, process: Any, script: Script) -> None:
        """However many processes begin at once, one asks WeCom and the others find its token."""
        script.on("gettoken", says(good_token("the-first")), says(good_token("another")))

        tokens = await asyncio.gather(*(process().access_token() for _ in range(3)))

        assert set(tokens) == {"the-first"}
        assert script.count("gettoken") == 1

    async def test_a_refused_token_is_replaced_by_one(self, process: Any, script: Script) -> None:
        """When WeCom ends a token early, one process fetches the next for all, at once."""
        bad, ok = says(refusal(40014)), says({"errcode": 0, "userid": "zhangsan"})
        script.on("gettoken", says(good_token("the-first")), says(good_token("the-next")), says(good_token("another")))
        script.on("user/get", bad, bad, ok)
        one, other = process(), process()
        await one.access_token()
        await other.access_token()

        await asyncio.gather(one.member("zhangsan"), other.member("zhangsan"))

        assert script.count("gettoken") == 2

    async def test_whose_turn_fails_tries_again_at_once(self, process: Any, script: Script, clock: Clock) -> None:
        """A process that claimed the fetch and met a network fault does not wait for itself."""
        script.on("gettoken", *[closes] * 3, says(good_token()))
        wecom = process()
        with pytest.raises(WeComUnreachable):
            await wecom.access_token()
        begun = clock.now

        assert await wecom.access_token() == TOKEN
        assert clock.now == begun

    async def test_a_process_that_died_holds_up_nobody(self, process: Any, script: Script, clock: Clock) -> None:
        """A claim whose holder brings no token is waited out for a few seconds, then the token is fetched."""
        script.on("gettoken", hangs, says(good_token()))
        died = asyncio.create_task(process().access_token())
        await script.wait()
        begun = clock.now

        assert await process(fetch_s=0).access_token() == TOKEN
        assert 0 < clock.now - begun < 10
        died.cancel()

    async def test_the_others_hear_of_a_wrong_secret(self, process: Any, script: Script) -> None:
        """While one process is refused, those who wait for it are refused too and do not ask again."""
        script.on("gettoken", refusal(40001))

        told = await asyncio.gather(*(process().access_token() for _ in range(3)), return_exceptions=True)

        assert {type(each) for each in told} == {AppMisconfigured}
        assert script.count("gettoken") == 1

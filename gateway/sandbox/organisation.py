"""The sample organisation, and who in it an app may see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from gateway.sandbox.state import App, Department, Member, Outsider, State, Tag

CORP_ID = "ww0123456789abcdef"
OTHER_CORP_ID = "wwfedcba9876543210"
AGENT_ID = 1000002
OTHER_AGENT_ID = 1000003
SYNC_AGENT_ID = 2000002
SECRET = "sandbox-app-secret-0123456789abcdefghijklmn"  # noqa: S105 - made up
OTHER_SECRET = "sandbox-second-app-secret-0123456789abcdefg"  # noqa: S105 - made up
SYNC_SECRET = "sandbox-contact-sync-secret-0123456789abcde"  # noqa: S105 - made up
OTHER_CORP_SECRET = "sandbox-other-corp-secret-0123456789abcdefg"  # noqa: S105 - made up


def sample(clock: Callable[[], float] = time.time, *, oauth_domain: str = "", weblogin_domain: str = "") -> State:
    """Build the sample organisation with its apps; domains are host[:port] of the gateway's callback."""
    return State(
        clock=clock,
        apps=_apps(oauth_domain, weblogin_domain),
        members={member.userid.lower(): member for member in _members()},
        outsiders={person.key: person for person in _outsiders()},
        departments={department.id: department for department in _departments()},
        tags={tag.tagid: tag for tag in _tags()},
    )


def below(departments: Mapping[int, Department], roots: Iterable[int]) -> set[int]:
    """Return the departments and everything under them."""
    found: set[int] = set()
    waiting = [root for root in roots if root in departments]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += [one.id for one in departments.values() if one.parentid == current]
    return found


def visible_departments(state: State, app: App) -> set[int]:
    """Return the departments an app sees; the contact-sync assistant sees all."""
    if app.kind == "sync":
        return set(state.departments)
    tagged = [party for tag in app.allow_tags if tag in state.tags for party in state.tags[tag].partylist]
    return below(state.departments, [*app.allow_departments, *tagged])


def sees(state: State, app: App, member: Member) -> bool:
    """Say whether the member is in the app's visible scope (可见范围)."""
    if app.kind == "sync":
        return True
    tagged = [user for tag in app.allow_tags if tag in state.tags for user in state.tags[tag].userlist]
    named = {user.lower() for user in (*app.allow_users, *tagged)}
    return member.userid.lower() in named or bool(visible_departments(state, app) & set(member.department))


def _apps(oauth_domain: str, weblogin_domain: str) -> list[App]:
    return [
        App(
            CORP_ID,
            AGENT_ID,
            "内网门户",
            secret=SECRET,
            allow_users=("Li.Na@Example",),
            allow_departments=(2, 5),
            oauth_domain=oauth_domain,
            weblogin_domain=weblogin_domain,
        ),
        App(
            CORP_ID,
            OTHER_AGENT_ID,
            "考勤打卡",
            secret=OTHER_SECRET,
            allow_departments=(1,),
            oauth_domain="attendance.example.com",
        ),
        App(CORP_ID, SYNC_AGENT_ID, "通讯录同步", secret=SYNC_SECRET, kind="sync"),
        App(OTHER_CORP_ID, AGENT_ID, "别家应用", secret=OTHER_CORP_SECRET),
    ]


def _departments() -> list[Department]:
    return [
        Department(1, "示例集团", 0, "Example Group"),
        Department(2, "管理中心", 1, "Management"),
        Department(3, "财务部", 2, "Finance", ("lisi",)),
        Department(4, "会计组", 3, "Accounting"),
        Department(5, "技术中心", 1, "Technology", ("wangwu",)),
        Department(6, "研发部", 5, "Research and Development"),
        Department(7, "平台组", 6, "Platform"),
        Department(8, "市场部", 1, "Marketing"),
    ]


def _tags() -> list[Tag]:
    return [Tag(1, "项目负责人", ("wangwu", "zhaoliu")), Tag(2, "财务系统用户", ("zhangsan",), (3,))]


def _members() -> list[Member]:
    """Give seven kinds of member: ordinary, by a parent department, leader, out of scope, disabled, new, odd id."""
    return [
        _member("zhangsan", "张三", (6,), "工程师", "10001", direct_leader=("wangwu",), alias="Sam"),
        _member("lisi", "李四", (3,), "财务经理", "10002", leads=(1,), gender="2"),
        _member("wangwu", "王五", (5, 7), "技术总监", "10003", leads=(1, 0), mail=False),
        _member("zhaoliu", "赵六", (8,), "市场专员", "10004", gender="2"),
        _member("qianqi", "钱七", (6,), "测试工程师", "10005", status=2),
        _member("sunba", "孙八", (7,), "实习生", "10006", status=4),
        _member("Li.Na@Example", "李娜", (4, 8), "会计", "10007", gender="2", alias="Lina"),
    ]


def _member(
    userid: str,
    name: str,
    department: tuple[int, ...],
    position: str,
    number: str,
    *,
    leads: tuple[int, ...] = (),
    direct_leader: tuple[str, ...] = (),
    alias: str = "",
    status: int = 1,
    gender: str = "1",
    mail: bool = True,
) -> Member:
    mailbox = userid.split("@")[0].lower()
    return Member(
        userid=userid,
        name=name,
        department=department,
        main_department=department[0],
        order=(0,) * len(department),
        is_leader_in_dept=leads or (0,) * len(department),
        direct_leader=direct_leader,
        position=position,
        alias=alias,
        status=status,
        extattr={"attrs": [{"type": 0, "name": "工号", "text": {"value": number}}]},
        gender=gender,
        avatar=f"https://wework.qpic.example/avatar/{number}/0",
        mobile=f"138000{number}",
        email=f"{mailbox}@example.com" if mail else "",
        biz_mail=f"{mailbox}@corp.example.com" if mail else "",
        qr_code=f"https://open.work.weixin.example/wwopen/userQRCode?vcode={number}",
        address="广州市海珠区新港中路",
    )


def _outsiders() -> list[Outsider]:
    return [
        Outsider("合作企业的周九", userid=f"{OTHER_CORP_ID}/zhoujiu"),
        Outsider("微信访客", openid="oSandboxVisitorOpenId0000000"),
        Outsider(
            "外部联系人吴十",
            openid="oSandboxCustomerOpenId000000",
            external_userid="wmSandboxCustomer0000000000000001",
            follower="zhangsan",
        ),
    ]

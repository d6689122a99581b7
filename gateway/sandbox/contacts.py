"""What an app may read: members, departments, tags, itself."""

from __future__ import annotations

import re

from gateway.sandbox.answers import RefusedError
from gateway.sandbox.api import Call, Endpoint, Fields
from gateway.sandbox.identity import spelled
from gateway.sandbox.organisation import below, sees, visible_departments
from gateway.sandbox.state import App, Department, Member

_USERID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_\-@.]{0,63}", re.ASCII)


def user_get(call: Call) -> Fields:
    """Give one member that the app sees."""
    userid = call.query.get("userid", "")
    if not userid:
        raise RefusedError(41009)
    if not _USERID.fullmatch(userid):
        raise RefusedError(40003)
    member = call.state.member(userid)
    if member is None or not sees(call.state, call.app, member):
        errcode = call.state.switches.unknown_member_errcode
        raise RefusedError(errcode, f"invalid string value `{userid}`. userid not found" if errcode == 60111 else None)
    return _member(call, member)


def _member(call: Call, member: Member) -> Fields:
    """Give a member's fields in the order of a real reply; private ones only to an old app."""
    seen = visible_departments(call.state, call.app)
    places = [place for place, department in enumerate(member.department) if department in seen]
    fields: Fields = {
        "userid": spelled(call.state, member.userid),
        "name": member.name,
        "department": [member.department[place] for place in places],
        "position": member.position,
        "status": member.status,
        "isleader": max(member.is_leader_in_dept, default=0),
        "extattr": member.extattr,
        "telephone": member.telephone,
        "enable": int(member.status != 2),
        "hide_mobile": member.hide_mobile,
        "order": [_at(member.order, place) for place in places],
        "alias": member.alias,
        "is_leader_in_dept": [_at(member.is_leader_in_dept, place) for place in places],
        "direct_leader": list(member.direct_leader),
    }
    if member.main_department in seen:
        fields["main_department"] = member.main_department
    if call.app.old:
        names = ("gender", "avatar", "mobile", "email", "biz_mail", "qr_code", "address")
        fields |= {name: getattr(member, name) for name in names} | {"thumb_avatar": member.avatar}
    return fields


def _at(values: tuple[int, ...], place: int) -> int:
    return values[place] if place < len(values) else 0


def user_simplelist(call: Call) -> Fields:
    return {"userlist": [_brief(call, member) for member in _of_department(call)]}


def user_list(call: Call) -> Fields:
    return {"userlist": [_member(call, member) for member in _of_department(call)]}


def _brief(call: Call, member: Member) -> Fields:
    whole = _member(call, member)
    return {name: whole[name] for name in ("userid", "name", "department")}


def _of_department(call: Call) -> list[Member]:
    """Return the visible members of a department, with ``fetch_child=1`` of those below too."""
    wanted = {_department(call, "department_id").id}
    if call.query.get("fetch_child") == "1":
        wanted = below(call.state.departments, wanted)
    members = call.state.members.values()
    return [one for one in members if wanted & set(one.department) and sees(call.state, call.app, one)]


def user_list_id(call: Call) -> Fields:
    """Give one row for each membership, page by page; the cursor is the next row's number."""
    limit, cursor = call.body.get("limit", 10000), call.body.get("cursor", "")
    if not isinstance(limit, int) or not 1 <= limit <= 10000:
        raise RefusedError(40058, "invalid param 'limit'")
    if not (cursor == "" or (str(cursor).isascii() and str(cursor).isdecimal())):
        raise RefusedError(40058, "invalid param 'cursor'")
    members = call.state.members.values()
    rows = [{"userid": one.userid, "department": department} for one in members for department in one.department]
    start = int(cursor or 0)
    more = str(start + limit) if start + limit < len(rows) else ""
    return {"next_cursor": more, "dept_user": rows[start : start + limit]}


def department_list(call: Call) -> Fields:
    return {"department": [_department_fields(call, one) for one in _listed(call)]}


def department_simplelist(call: Call) -> Fields:
    rows = [{"id": one.id, "parentid": one.parentid, "order": one.order} for one in _listed(call)]
    return {"department_id": rows}


def department_get(call: Call) -> Fields:
    return {"department": _department_fields(call, _department(call, "id"))}


def _listed(call: Call) -> list[Department]:
    """Return the visible departments, or those at and below ``id``; larger ``order`` first."""
    seen = visible_departments(call.state, call.app)
    if call.query.get("id"):
        seen &= below(call.state.departments, [_department(call, "id").id])
    chosen = [call.state.departments[one] for one in sorted(seen)]
    return sorted(chosen, key=lambda one: -one.order)


def _department(call: Call, name: str) -> Department:
    value = call.query.get(name, "")
    if not (value.isascii() and value.isdecimal()) or len(value) > 10:
        raise RefusedError(60123)
    department = call.state.departments.get(int(value))
    if department is None:
        raise RefusedError(60003)
    if department.id not in visible_departments(call.state, call.app):
        raise RefusedError(60011)
    return department


def _department_fields(call: Call, one: Department) -> Fields:
    leaders = [spelled(call.state, leader) for leader in one.department_leader]
    return {
        "id": one.id,
        "name": one.name,
        "name_en": one.name_en,
        "department_leader": leaders,
        "parentid": one.parentid,
        "order": one.order,
    }


def tag_get(call: Call) -> Fields:
    """Give a tag's visible members and departments; the departments are not expanded."""
    value = call.query.get("tagid", "")
    if not value:
        raise RefusedError(41017)
    tag = call.state.tags.get(int(value)) if value.isascii() and value.isdecimal() else None
    if tag is None:
        raise RefusedError(40068)
    members = [member for user in tag.userlist if (member := call.state.member(user)) is not None]
    seen = [member for member in members if sees(call.state, call.app, member)]
    departments = visible_departments(call.state, call.app)
    return {
        "tagname": tag.tagname,
        "userlist": [{"userid": spelled(call.state, one.userid), "name": one.name} for one in seen],
        "partylist": [party for party in tag.partylist if party in departments],
    }


def tag_list(call: Call) -> Fields:
    return {"taglist": [{"tagid": tag.tagid, "tagname": tag.tagname} for tag in call.state.tags.values()]}


def agent_get(call: Call) -> Fields:
    value = call.query.get("agentid", "")
    if not value:
        raise RefusedError(41011)
    known = {str(app.agent_id) for app in call.state.apps if app.corp_id == call.app.corp_id}
    if value not in known:
        raise RefusedError(40056)
    if value != str(call.app.agent_id):
        raise RefusedError(301002)
    return _agent(call.app)


def _agent(app: App) -> Fields:
    return {
        "agentid": app.agent_id,
        "name": app.name,
        "square_logo_url": "https://wework.qpic.example/logo/0",
        "description": app.name,
        "allow_userinfos": {"user": [{"userid": user} for user in app.allow_users]},
        "allow_partys": {"partyid": list(app.allow_departments)},
        "allow_tags": {"tagid": list(app.allow_tags)},
        "close": int(not app.enabled),
        "redirect_domain": app.oauth_domain,
        "report_location_flag": 0,
        "isreportenter": 0,
        "home_url": "",
    }


def ip_list(call: Call) -> Fields:
    return {"ip_list": ["127.0.0.1"]}


ENDPOINTS = (
    Endpoint("user/get", user_get, sync=48009),
    Endpoint("user/simplelist", user_simplelist, sync=48009),
    Endpoint("user/list", user_list, sync=48009),
    Endpoint("user/list_id", user_list_id, method="POST", own=48002),
    Endpoint("department/list", department_list, sync=48009),
    Endpoint("department/simplelist", department_simplelist),
    Endpoint("department/get", department_get, sync=48009),
    Endpoint("tag/get", tag_get),
    Endpoint("tag/list", tag_list),
    Endpoint("agent/get", agent_get, sync=301002),
    Endpoint("getcallbackip", ip_list),
    Endpoint("get_api_domain_ip", ip_list),
)

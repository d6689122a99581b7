"""The client of WeCom's server API (企业微信服务端 API)."""

from gateway.wecom.client import WeCom
from gateway.wecom.contacts import Department, Tag
from gateway.wecom.reading import Details, Visitor
from gateway.wecom.tokens import App, Claim
from gateway.wecom.transport import Endpoints

__all__ = ["App", "Claim", "Department", "Details", "Endpoints", "Tag", "Visitor", "WeCom"]

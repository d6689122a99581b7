"""A local WeCom with the real one's rules, for demos and tests; it imports nothing from the rest of the gateway."""

from gateway.sandbox.server import Sandbox, run

__all__ = ["Sandbox", "run"]

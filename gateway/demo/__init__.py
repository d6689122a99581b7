"""The whole chain on one machine: a sandbox WeCom, the gateway, a real nginx and things to protect, all on loopback."""

from gateway.demo.plan import CannotRun, Plan, Ports
from gateway.demo.run import start

__all__ = ["CannotRun", "Plan", "Ports", "start"]

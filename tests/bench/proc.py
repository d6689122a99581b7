"""What Linux knows of processes and of the machine, read from /proc."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_LISTEN = "0A"


def tree(pid: int) -> list[int]:
    """*pid* and every process below it."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                waiting += map(int, children.read_text().split())
    return found


def title(pid: int) -> str:
    """What process *pid* calls itself, empty once it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
    return ""


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that *pids* and what is below them have used, user and system, ended children included."""
    total = 0
    for root in pids:
        for each in tree(root):
            with suppress(OSError):
                fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
    return total * _TICK_S


def rss_mb(pid: int) -> float:
    """Resident memory of *pid* and what is below it, in MiB."""
    return sum(_status_kb(each, "VmRSS") for each in tree(pid)) / 1024


def _status_kb(pid: int, name: str) -> int:
    with suppress(OSError):
        if match := re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
            return int(match[1])
    return 0


def machine_s(stat: Path = Path("/proc/stat")) -> tuple[float, float, float]:
    """CPU seconds that the machine has spent on anything, those the hypervisor withheld (steal), and those there were."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    busy = user + nice + system
    return busy * _TICK_S, steal * _TICK_S, (busy + steal + idle + iowait + irq + softirq) * _TICK_S


def listener(port: int) -> int | None:
    """The process that listens on TCP *port* of this machine, if we may know."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    owners = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit() and _holds(folder, inodes)]
    return min(owners, default=None)


def _holds(folder: Path, inodes: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in (folder / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in inodes:
                    return True
    return False


def machine() -> dict[str, Any]:
    """What was measured on."""
    cpus = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpus[0] if cpus else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gb": round(int(memory[1]) / 1024**2, 1) if memory else None,
        "system": _system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        "uvloop": version("uvloop"),
        "nginx": _said("nginx", "-v").rpartition("/")[2],
        "wrk": _said("wrk", "-v").removeprefix("wrk ").partition(" [")[0],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _system() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.system()


def _said(program: str, option: str) -> str:
    """The first line of what a program says of itself."""
    run = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return ((run.stdout + run.stderr).splitlines() or [""])[0]

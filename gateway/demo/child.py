"""Child processes that never outlive us: ended with us in order, and by the kernel should we be killed outright."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PR_SET_PDEATHSIG = 1
PATIENCE_S = 8
LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Child:
    """A running program whose output goes to *log*."""

    name: str
    log: Path
    process: asyncio.subprocess.Process

    def last_words(self) -> str:
        """What it was, how it ended, and the end of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
        said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return f"{self.name} ended by itself (exit status {self.process.returncode}); the end of {self.log}:\n{said}"


@contextlib.asynccontextmanager
async def running(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[Child]:
    """Start a program in a session of its own, so that Ctrl-C reaches it through us only; end it in the end."""
    with _emptied(log) as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            preexec_fn=_ending_with_parent(),
        )
    try:
        yield Child(name, log, process)
    finally:
        await _end(process, patience_s)


def _emptied(log: Path) -> BinaryIO:
    return log.open("wb")


def _ending_with_parent() -> Callable[[], None] | None:
    """What the child does before its program starts; only Linux knows how."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _end(process: asyncio.subprocess.Process, patience_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience_s)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

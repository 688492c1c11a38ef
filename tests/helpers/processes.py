"""Processes of this machine: waiting for what they do, and killing them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def wait_for(until: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Return once `until` holds; a test fails where it does not in time."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def command(pid: int) -> str:
    """The command line of a process; empty where there is none or it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Processes under another one, parents before their children."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parts[2])] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def kill_with_descendants(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill a process and all under it at once, as when the machine goes down, and see them end."""
    tree = [process.pid, *descendants(process.pid)]
    for pid in tree:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not any(map(command, tree)), "the end of the killed processes")

"""Wait for processes of this machine, and kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def wait_for(until: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait until `until` holds; fail the test if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def command(pid: int) -> str:
    """Return the command line of a process; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """List all descendants of a process, parents before their children."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parts[2])] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def kill_with_descendants(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill a process and its descendants at once, like a power cut, and wait for their end."""
    tree = [process.pid, *descendants(process.pid)]
    for pid in tree:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not any(map(command, tree)), "the end of the killed processes")

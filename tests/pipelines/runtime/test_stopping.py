"""Real signals to real processes: a small one without Ray, and a training of two workers on Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.processes import wait_for
from valence.run import Run

# A command that says when it is at work, and cleans up as long as it is told to.
_COMMAND = """
import sys, time
from pipelines import cli
from pipelines.runtime.stopping import undisturbed

@cli.app.command()
def work(cleaning: float = 0.0, swallow: bool = False, guarded: bool = False) -> None:
    try:
        if guarded:
            with undisturbed():
                print("at work", flush=True)
                sys.stdin.readline()
                print("whole", flush=True)
        print("at work", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("cleaning", flush=True)
        time.sleep(cleaning)
        print("clean", flush=True)
        if not swallow:
            raise

sys.argv = ["valence", "work", *sys.argv[1:]]
cli.main()
"""


@contextmanager
def _started(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _at_work(*options: str, before: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    with _started(*before, sys.executable, "-c", _COMMAND, *options) as process:
        _await_line(process, "at work")
        yield process


def _await_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), process.communicate()


@pytest.mark.parametrize(
    ("signum", "status", "words"),
    [
        (signal.SIGINT, 130, "valence: Stopped. What is finished is kept"),
        (signal.SIGTERM, 143, "valence: Stopped (SIGTERM). What is finished is kept"),
        (signal.SIGHUP, 129, "valence: Stopped (SIGHUP). What is finished is kept"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--swallow",)])
def test_a_signal_ends_a_command(
    signum: signal.Signals, status: int, words: str, options: tuple[str, ...]
) -> None:
    with _at_work(*options) as process:
        process.send_signal(signum)
        out, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert err.startswith(words)
    assert err.count("\n") == 1
    assert out.endswith("clean\n")


def test_the_same_signal_at_once_is_one() -> None:
    """As `timeout` sends it: to the process, and to the group that it is in."""
    with _at_work("--cleaning", "0.3") as process:
        process.send_signal(signal.SIGTERM)
        _await_line(process, "cleaning")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (143, "clean\n")


def test_a_second_signal_ends_it_at_once() -> None:
    with _at_work("--cleaning", "60") as process:
        process.send_signal(signal.SIGINT)
        _await_line(process, "cleaning")
        while process.poll() is None:
            # Those of the first second count as the first.
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert (
        err == "valence: Stopped. What is finished is kept; the same command goes on from there.\n"
    )


def test_what_leaves_processes_behind_is_not_broken_off() -> None:
    with _at_work("--guarded") as process:
        process.send_signal(signal.SIGTERM)
        # The signal is there before the line that the work waits for.
        out, err = process.communicate("\n", timeout=20)
    assert (process.returncode, out) == (143, "whole\ncleaning\nclean\n")
    assert "Stopped (SIGTERM)" in err


def test_an_ignored_signal_stays_ignored() -> None:
    with _at_work(before=("nohup",)) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 143


def _marked(mark: str) -> dict[int, str]:
    """Processes whose environment holds a mark, with their names."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def _listening(pids: set[int]) -> set[str]:
    """Addresses, in hexadecimal, on which processes listen."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[len("socket:[") : -1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                addresses.add(fields[1].partition(":")[0])
    return addresses


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="reads Linux's /proc")
def test_a_training_of_two_workers_alone_on_its_machine(
    prepared_run: Callable[[str], Run],
) -> None:
    """They listen on loopback alone, no less urgent than others, and end on SIGTERM."""
    mark = f"mark-{time.time_ns()}"
    settings = ["sequence.length=20", "model.channels=[2,4,8]", "model.lstm_hidden=16"]
    settings += ["train.workers=2", "train.epochs=10000", "train.patience=10000"]
    run = prepared_run("run")
    options = [part for setting in settings for part in ("--set", setting)]
    environment = {"VALENCE_TEST_MARK": mark, "RAY_ADDRESS": " ", "RAY_AUTH_MODE": ""}
    command = [sys.executable, "-m", "pipelines", "train", run.root.path, *options]
    with _started(*command, **environment) as process:
        errors: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=lambda: errors.extend(process.stderr))  # type: ignore[arg-type]
        reader.start()
        history = Path(run.root.path) / "train" / "history.csv"
        # An epoch is done: the workers have met and exchanged what they found.
        wait_for(lambda: history.exists() or process.poll() is not None, "an epoch", seconds=240)
        assert process.poll() is None, errors
        started = _marked(mark)
        workers = {pid for pid, name in started.items() if "RayTrainWorker" in name}
        assert len(workers) == 2, started
        loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
        assert _listening(workers)
        assert _listening(set(started)) <= loopback
        own = os.getpriority(os.PRIO_PROCESS, process.pid)
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in workers} == {own}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
        reader.join()
    assert errors[-1].startswith("valence: Stopped (SIGTERM). What is finished is kept")
    assert not any("Traceback" in line for line in errors)
    # What it started ends with it, the last of it within seconds.
    wait_for(lambda: not _marked(mark), "the end of what it started", seconds=30)

"""Standard output as it is found, by real processes: ASCII, latin-1, closed, full, read no more."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from valence.storage.location import Location

_PROGRAM = shlex.join([sys.executable, "-m", "pipelines"])


@pytest.fixture
def odd_corpus(tiny_corpus: Location, tmp_path: Path) -> Path:
    """A corpus with names that few encodings have."""
    folder = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.path, folder)
    for name in ("größe−…", "録音", "\x1b[31mred"):
        (folder / "raw_data" / "audio" / f"{name}.wav").write_bytes(b"")
    return folder


def _shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env={**os.environ, **environment},
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"PYTHONIOENCODING": "ascii"}, [rb"gr\xf6\xdfe-...", rb"\u9332\u97f3"]),
        ({"PYTHONIOENCODING": "latin-1"}, [b"gr\xf6\xdfe-...", rb"\u9332\u97f3"]),
        ({"PYTHONIOENCODING": "utf-8"}, ["größe−…".encode(), "録音".encode()]),
    ],
)
def test_an_encoding_that_lacks_a_name(
    odd_corpus: Path, environment: dict[str, str], names: list[bytes]
) -> None:
    ran = _shell(f"{_PROGRAM} check {odd_corpus}", **environment)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    for name in [*names, rb"\x1b[31mred"]:
        assert name in ran.stdout
    assert b"\x1b" not in ran.stdout


def test_an_error_on_a_stream_that_lacks_its_characters() -> None:
    line = f"{_PROGRAM} check /no/such --set $'größe\\xff.x=1'"
    ran = _shell(line, PYTHONIOENCODING="ascii:strict")
    assert ran.returncode == 2
    assert rb"gr\xf6\xdfe\udcff" in ran.stderr


def test_nobody_reads_on(odd_corpus: Path) -> None:
    # The reader is gone before anything is written.
    ran = _shell(f"{_PROGRAM} check {odd_corpus} | true")
    assert (ran.returncode, ran.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tiny_corpus: Location, closed: str) -> None:
    assert _shell(f"{_PROGRAM} check {tiny_corpus.path} {closed}").returncode == 0
    assert _shell(f"{_PROGRAM} check /no/such/corpus {closed}").returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_below_standard_output(tiny_corpus: Location) -> None:
    ran = _shell(f"{_PROGRAM} check {tiny_corpus.path} > /dev/full")
    assert ran.returncode == 1
    assert b"No space left on device" in ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"Exception ignored" not in ran.stderr


@pytest.mark.parametrize("columns", ["0", "1", "40"])
def test_a_terminal_of_any_width(odd_corpus: Path, columns: str) -> None:
    line = f"stty cols {columns}; {_PROGRAM} check {odd_corpus}"
    for environment in ({"COLUMNS": columns}, {"TERM": "dumb"}):
        # `script` gives the command a terminal.
        ran = _shell(f"script -qec {shlex.quote(line)} /dev/null", **environment)
        assert ran.returncode == 0, ran.stdout
        assert ran.stdout.count(b"REJECTED") == 3

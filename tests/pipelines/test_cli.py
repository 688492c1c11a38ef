"""The command line as a user meets it: exit statuses and messages, each from a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def _valence(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--help"], 0, []),
        (["no-such-command"], 2, ["no-such-command"]),
        (["check", "/no/such/corpus"], 1, ["/no/such/corpus"]),
        (["train", "/no/such/run"], 2, ["is not a run", "valence run CORPUS"]),
        (
            ["check", "/no/such/corpus", "--set", "train.epoch=3"],
            2,
            ["'epoch'", "Did you mean 'epochs'?"],
        ),
        (["check", "/no/such/corpus", "--set", "trian.epochs=3"], 2, ["Did you mean 'train'?"]),
        (["check", "/no/such/corpus", "--set", "train.epochs=0"], 2, ["train.epochs", "found 0"]),
        (["check", "/no/such/corpus", "--set", "nonsense"], 2, ["section.key=value"]),
        (["check", "/no/such/corpus", "--config", "/no/such.toml"], 2, ["no configuration file"]),
    ],
)
def test_exit_status_and_message(arguments: list[str], status: int, told: list[str]) -> None:
    ran = _valence(*arguments)
    assert ran.returncode == status, ran.stderr
    assert "Traceback" not in ran.stderr
    for words in told:
        assert words in ran.stderr


def test_a_traceback_only_under_debug(tmp_path: Path) -> None:
    assert "Traceback" in _valence("train", str(tmp_path), "--debug").stderr

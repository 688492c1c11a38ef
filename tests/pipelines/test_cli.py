"""The command line as a user meets it: exit statuses and messages, each from a real process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from valence.run import Run
from valence.storage.location import Location


def _valence(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "status", "output"),
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
def test_exit_status_and_message(arguments: list[str], status: int, output: list[str]) -> None:
    ran = _valence(*arguments)
    assert ran.returncode == status, ran.stderr
    assert "Traceback" not in ran.stderr
    for words in output:
        assert words in ran.stderr


def test_a_head_that_does_not_answer_is_told(tiny_corpus: Location, tmp_path: Path) -> None:
    ran = _valence(
        "preprocess", tiny_corpus.path, "--out", str(tmp_path / "no"), "--address", "127.0.0.1:9"
    )  # fmt: skip
    assert ran.returncode == 1
    assert "Nothing answers at '127.0.0.1:9'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_traceback_only_under_debug(tmp_path: Path) -> None:
    assert "Traceback" in _valence("train", str(tmp_path), "--debug").stderr


def test_export_of_the_studys_files(prepared_run: Callable[[str], Run], tmp_path: Path) -> None:
    run = prepared_run("run")
    ran = _valence(
        "export", run.root.path, "--npz", str(tmp_path / "npz"), "--split", "validation",
        "--stride", "5",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    files = sorted((tmp_path / "npz").rglob("*.npz"))
    # 80 segments: windows of 20 begin at 0, 5, ... 60.
    assert f"export: {len(files)} files, " in ran.stderr
    assert {file.parent.name for file in files} == {"validation"}
    assert len(files) % 13 == 0
    with np.load(files[0]) as held:
        assert held["mel"].shape == (20, 1, 128, 34)
        assert held["labels"].shape == (20, 2)
    refused = _valence("export", run.root.path, "--npz", str(tmp_path / "b"), "--split", "all")
    assert refused.returncode == 2
    assert "Expected one of train, validation, test, unlabelled" in refused.stderr

"""`report`, `predict` and `export` on a finished run, as the program is called."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from pipelines.cli import main
from valence.model.serialization import export_model, load_model
from valence.prediction.predictor import Predictor
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.sweep.features import read_features


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stderr: str


Valence = Callable[..., Ended]


@pytest.fixture
def valence(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Valence:
    """The program with these arguments; in this process, because torch takes seconds to load."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["valence", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        message = capfd.readouterr()
        assert message.out == ""
        return Ended(ended.value.code, message.err)

    return call


@pytest.fixture(scope="module")
def run(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("cli") / "run"
    shutil.copytree(finished_run.root.local, folder)
    return Run.at(str(folder))


def test_a_report_and_a_comparison(
    valence: Valence, run: Run, finished_run: Run, tmp_path: Path
) -> None:
    done = valence("report", run.root)
    assert done.returncode == 0, done.stderr
    page = run.folder("report") / "report.html"
    assert done.stderr.strip() == f"report: {page}"
    before = page.read_bytes()

    out = tmp_path / "side by side"
    done = valence("report", run.root, finished_run.root, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in out.iterdir()) == [
        "figures",
        "metrics.json",
        "report.html",
        "stage.json",
    ]
    for arguments, output in (
        ((run.root, "--out", out), "--out was given with one run"),
        ((run.root, finished_run.root), "Add --out DIR"),
        ((run.root, finished_run.root, "--out", run.folder("report")), "holds a stage of a run"),
    ):
        wrong = valence("report", *arguments)
        assert wrong.returncode == 2
        assert output in wrong.stderr
        assert "Traceback" not in wrong.stderr
    assert page.read_bytes() == before


def test_a_prediction_with_labels(valence: Valence, run: Run, tmp_path: Path) -> None:
    corpus = run.record()["corpus"]
    audio = tmp_path / "audio"
    audio.mkdir()
    shutil.copy(f"{corpus}/raw_data/audio/06.wav", audio)
    (audio / "memo.m4a").write_bytes(bytes(2000))
    out = tmp_path / "out"
    options = ["--labels", corpus, "--speech", "energy"]
    done = valence("predict", audio, "--model", run.root, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(out / "06.csv").columns.tolist() == [*("timestamp", "valence", "speech")]
    assert "memo: set aside" in done.stderr
    assert "1 predicted" in done.stderr
    assert (out / "06.png").exists()

    nothing = valence("predict", tmp_path / "absent", "--model", run.root, "--out", out)
    assert (nothing.returncode, "names no audio" in nothing.stderr) == (2, True)
    soundfile.write(audio / "blink.wav", np.ones(100), 16_000)
    short = valence("predict", audio / "blink.wav", "--model", run.model, "--out", out)
    assert (short.returncode, "shorter than 0.5 s" in short.stderr) == (1, True)
    no_model = valence("predict", audio, "--model", audio, "--out", out)
    assert (no_model.returncode, "holds no model" in no_model.stderr) == (1, True)


def test_the_exported_graph_says_what_the_features_of_the_run_say(
    valence: Valence, run: Run, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    file = tmp_path / "model.onnx"
    done = valence("export", run.root, "--onnx", file, "--input", "mel")
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(str(file))
    features = read_features(run.folder("features")).of("test")
    mel = SegmentStore(run.folder("segments")).read("06").mel.astype(np.float32)
    length = run.config().sequence.length
    sequences = np.stack([mel[start : start + length] for start in features.start])
    prediction, feature, _ = session.run(None, {"mel": sequences})
    np.testing.assert_allclose(prediction, features.prediction, atol=1e-4)
    np.testing.assert_allclose(feature, features.feature, atol=1e-4)
    for segments in (1, 7, len(mel)):
        prediction, _, attention = session.run(None, {"mel": mel[None, :segments]})
        assert (prediction.shape, attention.shape) == ((1, 1), (1, segments))

    nothing = valence("export", run.root)
    assert (
        nothing.returncode,
        "Add --npz DIR, --onnx FILE or --audonnx DIR" in nothing.stderr,
    ) == (2, True)


def test_the_exported_graph_hears_what_a_prediction_hears(
    valence: Valence, run: Run, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    mixed = Run.at(str(tmp_path / "run"))
    shutil.copytree(run.root.local, mixed.root.local)
    y, sr = soundfile.read(f"{run.record()['corpus']}/raw_data/audio/06.wav", dtype="float32")
    for options in ((), ("--regressor", "best")):
        predictor = Predictor.load(mixed, regressor="best" if options else None)
        file, folder = tmp_path / "model.onnx", tmp_path / "audonnx"
        done = valence(
            "export", mixed.root, "--onnx", file, "--audonnx", folder, *options, "--overwrite"
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines() == [f"export: {folder}", f"export: {file}"]
        for each in (file, folder / "model.onnx"):
            session = onnxruntime.InferenceSession(str(each))
            (found,) = session.run(["timeline"], {"audio": y[None]})
            np.testing.assert_allclose(found[0], predictor(y, sr=sr).values, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--npz", "npz", "--input", "mel"), "--input mel was given without --onnx"),
        (("--audonnx", "folder", "--input", "mel"), "--input mel was given without --onnx"),
        (("--npz", "npz", "--regressor", "best"), "without --onnx or --audonnx"),
        (("--onnx", "file", "--input", "set"), "The model takes sound"),
    ],
)
def test_options_of_another_export_are_refused(
    valence: Valence, run: Run, options: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    words = [
        str(tmp_path / word) if word in ("npz", "folder", "file") else word for word in options
    ]
    refused = valence("export", run.root, *words)
    assert (refused.returncode, says in refused.stderr) == (2, True), refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_run_is_neither_exported_nor_used(
    valence: Valence, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(run.root.local, tmp_path / "run")
    mixed = Run.at(str(tmp_path / "run"))
    model, description = load_model(mixed.model)
    torch.nn.init.ones_(model.output.weight)
    assert export_model(mixed.model, model, mixed.config(), {}) != description.sha256
    audio = f"{run.record()['corpus']}/raw_data/audio/06.wav"
    for arguments in (
        ("export", mixed.root, "--onnx", tmp_path / "model.onnx"),
        ("predict", audio, "--model", mixed.root, "--out", tmp_path / "out"),
        ("report", mixed.root),
    ):
        refused = valence(*arguments)
        assert refused.returncode == 1
        assert "does not hold the model that" in refused.stderr
        assert f"'valence train {mixed.root}'" in refused.stderr
    assert not (tmp_path / "model.onnx").exists()
    assert not (tmp_path / "out").exists()


def test_segments_of_another_making_are_not_exported_with_this_configuration(
    valence: Valence, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(run.root.local, tmp_path / "run")
    mixed = Run.at(str(tmp_path / "run"))
    stage, settings = mixed.stage("segments"), {"run": {"corpus": "another", "synthetic": True}}
    stage.amend({**stage.require()["summary"], "settings": settings})
    refused = valence("export", mixed.root, "--npz", tmp_path / "npz")
    assert refused.returncode == 1
    assert "run.corpus is another there" in refused.stderr
    assert not (tmp_path / "npz").exists()

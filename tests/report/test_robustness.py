"""Degradations do what their names say, and scores on them are of the same sequences."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from valence.prediction.predictor import Predictor
from valence.report.analysis.results import read_evidence
from valence.report.analysis.robustness import Robustness, measure, telephone, white_noise
from valence.run import Run

SR = 16_000


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0])
def test_noise_has_the_power_asked_for(snr_db: float) -> None:
    y = (0.2 * np.sin(np.arange(4 * SR) * 0.05)).astype(np.float32)
    noisy = white_noise(y, np.random.default_rng(1), snr_db=snr_db)
    assert noisy.dtype == np.float32
    noise = noisy.astype(float) - y
    ratio = 10 * np.log10(np.mean(y.astype(float) ** 2) / np.mean(noise**2))
    assert ratio == pytest.approx(snr_db, abs=0.1)
    spectrum = abs(np.fft.rfft(noise)) ** 2
    low, high = np.array_split(spectrum, 2)
    assert low.mean() == pytest.approx(high.mean(), rel=0.05), "white noise has no colour"


@pytest.mark.parametrize(
    ("hertz", "least", "most"),
    [(60, -120, -40), (1000, -0.5, 0.5), (2500, -0.5, 0.5), (6000, -120, -30)],
)
def test_a_telephone_keeps_the_middle(hertz: float, least: float, most: float) -> None:
    y = np.sin(2 * np.pi * hertz * np.arange(2 * SR) / SR).astype(np.float32)
    heard = telephone(y, np.random.default_rng(), sr=SR)
    assert len(heard) == len(y)
    settled = slice(SR, None)
    gain = 10 * np.log10(np.mean(heard[settled] ** 2) / np.mean(y[settled] ** 2))
    assert least < gain < most


def test_scores_are_of_the_features_own_sequences(finished_run: Run) -> None:
    evidence = read_evidence(finished_run)
    predictor = Predictor.load(finished_run)
    found = measure(evidence, predictor)
    assert isinstance(found, Robustness)
    assert [each.name for each in found.conditions] == [
        "clean",
        "noise_20db",
        "noise_10db",
        "noise_0db",
        "telephone",
    ]
    rows = evidence.features.of("test")
    assert found.conditions[0].scores.n == len(rows)
    mse = float(np.mean((rows.target[:, 0] - rows.prediction[:, 0]) ** 2))
    assert found.conditions[0].scores.mse == pytest.approx(mse, rel=1e-3)
    assert len({each.scores.mse for each in found.conditions}) == 5, "each changes something"
    assert (found.split, found.recordings, found.note) == ("test", 1, "")
    again = measure(evidence, predictor)
    assert again == found


def test_no_more_sound_is_used_than_allowed(finished_run: Run) -> None:
    evidence = read_evidence(finished_run)
    found = measure(evidence, Predictor.load(finished_run), most_seconds=15)
    assert isinstance(found, Robustness)
    # Windows of 10 s, a start every 2.5 s: those that lie in the first 15 s.
    assert found.conditions[0].scores.n == 3
    assert found.seconds == 15
    assert "beginning of 1 of 1 recording," in found.note


def test_why_it_is_not_measured_is_told(finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(finished_run.root.local, tmp_path / "run")
    run = Run.at(str(tmp_path / "run"))
    predictor = Predictor.load(run)
    config, record = run.config(), run.record()
    corpus = Path(record["corpus"])
    run.write_config(config, {**record, "corpus": str(tmp_path / "gone")})
    assert "the corpus cannot be read now" in str(measure(read_evidence(run), predictor))

    changed = tmp_path / "changed"
    shutil.copytree(corpus, changed)
    audio = changed / "raw_data" / "audio"
    (audio / "06.wav").unlink()
    shutil.copy(audio / "05.wav", audio / "06.wav")
    run.write_config(config, {**record, "corpus": str(changed)})
    assert "other sound than this run was made from" in str(measure(read_evidence(run), predictor))

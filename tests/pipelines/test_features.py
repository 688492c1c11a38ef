"""`valence features`: eGeMAPS of a small made corpus, stopped, resumed and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.helpers.consoles import RecordedConsole
from valence.config import Config
from valence.corpus.muse import Corpus, Recording, read_corpus
from valence.errors import FeatureError, StaleError, UsageError
from valence.segments.feature_sets import open_any
from valence.segments.feature_sets.egemaps import SR
from valence.storage.location import Location

pytest.importorskip("opensmile", reason="the extra opensmile is not installed")

Make = Callable[[], Corpus]


@pytest.fixture
def corpus(tmp_path: Path) -> Make:
    """Two recordings, one of them beyond full scale and at another rate, and a broken one."""
    folder = tmp_path / "raw_data/audio"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(folder / "1.wav", 0.1 * rng.standard_normal(int(2.3 * SR)), SR)
    loud = np.clip(3 * rng.standard_normal(2 * 44_100), -1.5, 1.5)
    soundfile.write(folder / "2.wav", loud, 44_100, subtype="FLOAT")
    (folder / "3.wav").write_bytes(b"RIFF")
    return lambda: read_corpus(Location.parse(tmp_path))


@pytest.fixture
def config() -> Config:
    return Config.resolve(Config(), assignments=["sequence.length=3", "sequence.stride=1"])


def _fail_at(name: str) -> Callable[..., Any]:
    """The outcome of each recording, and of one that its process died, whatever it is."""
    from pipelines import features

    outcome = features._outcome

    def failing(done: Any, recording: Recording) -> Any:
        found = outcome(done, recording)
        return features.FeaturesOutcome(name, reason="it died") if found.id == name else found

    return failing


@pytest.mark.ray
def test_a_corpus_gets_a_set_that_is_made_once(
    ray_local: None,
    corpus: Make,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipelines.features import features

    console = RecordedConsole()
    about = features(corpus(), config, console=console)
    assert "commercially" in console.lines[0]
    assert "commercially" in about["licence"]
    assert list(about["recordings_left_out"]) == ["3"]
    assert any("were limited" in remark for remark in about["remarks"]["2"])
    chosen = open_any(Location.parse(tmp_path), "egemaps", ["1", "2"])
    assert len(chosen.columns) == 88
    assert chosen.about["complete"]
    # 2.3 s have four whole segments; two seconds at 44.1 kHz have four at 16 kHz.
    for name in ("1", "2"):
        value = chosen.read(name, 4)
        level = chosen.columns.index("equivalentSoundLevel_dBp")
        assert np.isfinite(value[:, level]).all()

    folder = tmp_path / "feature_segments/egemaps"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "1.parquet").write_bytes(before["1.parquet"][:-9])
    (folder / "gone.parquet").write_bytes(b"of a recording that the corpus no longer has")
    again = features(corpus(), config, console=console)
    assert again == about
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert "2 recordings (1 were there), 8 rows" in "\n".join(console.lines)

    # A recording that cannot be measured any more keeps no features of what it was.
    monkeypatch.setattr("pipelines.features._outcome", _fail_at("2"))
    assert list(features(corpus(), config, console=console)["recordings_left_out"]) == ["2", "3"]
    assert not open_any(Location.parse(tmp_path), "egemaps", ["1", "2"]).has("2")
    monkeypatch.undo()

    # Sequences of three segments: two of 2.3 s, and two of 2 s.
    features(corpus(), config, per="sequence", console=console)
    sequences = open_any(Location.parse(tmp_path), "egemaps-1.5s", ["1", "2"])
    assert sequences.length == 3
    found = sequences.read_sequences("1", np.array([0, 1, 2]))
    assert np.isfinite(found).any(axis=1).tolist() == [True, True, False]


def test_other_settings_and_other_makers_are_refused(
    corpus: Make, config: Config, tmp_path: Path
) -> None:
    from pipelines.features import plan_features

    folder = tmp_path / "feature_segments/egemaps"
    folder.mkdir(parents=True)
    (folder / "1.csv").write_text("timestamp,f\n0,1\n")
    with pytest.raises(FeatureError, match=r"another program made.*--name"):
        plan_features(corpus(), config, per="segment", name=None, overwrite=True)
    for name in ("", "a/b", ".hidden", "mel"):
        with pytest.raises(UsageError, match="a name for a folder"):
            plan_features(corpus(), config, per="segment", name=name, overwrite=False)
    plan = plan_features(corpus(), config, per="segment", name="own", overwrite=False)
    assert plan.root.name == "own"
    plan.root.local.mkdir()
    (plan.root / "set.json").write_json(
        {"made_by": "valence features", "settings": {**plan.settings, "opensmile": "2.5.0"}}
    )
    with pytest.raises(StaleError, match="opensmile"):
        plan_features(corpus(), config, per="segment", name="own", overwrite=False)
    plan_features(corpus(), config, per="segment", name="own", overwrite=True)


def test_a_file_is_made_anew_where_the_sound_has_changed(
    corpus: Make, config: Config, tmp_path: Path
) -> None:
    from pipelines.features import measure_into, plan_features

    plan = plan_features(corpus(), config, per="segment", name=None, overwrite=False)
    recording = plan.corpus.recordings[0]

    def measured() -> tuple[int, bool]:
        outcome = measure_into(recording, plan.root, plan.settings, channel="mean")
        return outcome.rows, outcome.kept

    assert [measured(), measured()] == [(4, False), (4, True)]
    sound, _ = soundfile.read(tmp_path / "raw_data/audio/1.wav")
    soundfile.write(tmp_path / "raw_data/audio/1.wav", sound[:SR], SR)
    assert measured() == (2, False)
    # What is shorter than a segment has no features, and leaves none of before.
    soundfile.write(tmp_path / "raw_data/audio/1.wav", sound[:100], SR)
    outcome = measure_into(recording, plan.root, plan.settings, channel="mean")
    assert "shorter than 0.5 s" in outcome.reason
    assert not (plan.root / "1.parquet").exists()

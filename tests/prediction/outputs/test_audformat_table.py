"""Tables of audformat, read by audformat itself."""

from __future__ import annotations

from pathlib import Path

import audformat
import numpy as np
import pandas as pd
import pytest

from tests.helpers.predicted import AROUSAL, VALENCE, made_predicted
from valence.prediction.outputs.audformat_table import render

# Audformat 1.4 calls pandas in a way that pandas 3.1 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def test_audformat_reads_a_segmented_table(tmp_path: Path) -> None:
    file = tmp_path / "talk.audformat.csv"
    file.write_bytes(render(made_predicted("/d/Zoë, 1.wav")))
    series = audformat.utils.read_csv(str(file))
    assert series.name == "valence"
    assert audformat.is_segmented_index(series)
    assert set(series.index.get_level_values("file")) == {"/d/Zoë, 1.wav"}
    starts = series.index.get_level_values("start")
    assert starts.tolist() == [pd.Timedelta(500 * i, "ms") for i in range(20)]
    ends = series.index.get_level_values("end")
    assert (ends - starts == pd.Timedelta(500, "ms")).all()
    np.testing.assert_array_equal(series.to_numpy().astype(np.float32), VALENCE)


def test_several_targets_are_columns_of_a_database_table(tmp_path: Path) -> None:
    file = tmp_path / "talk.audformat.csv"
    file.write_bytes(render(made_predicted("/d/talk.wav", targets=("valence", "arousal"))))
    frame = audformat.utils.read_csv(str(file))
    database = audformat.Database("predictions")
    database["talk"] = audformat.Table(frame.index)
    for target, expected in (("valence", VALENCE), ("arousal", AROUSAL)):
        database.schemes[target] = audformat.Scheme("float", minimum=-1, maximum=1)
        database["talk"][target] = audformat.Column(scheme_id=target)
        database["talk"][target].set(frame[target])
        got = database["talk"][target].get().to_numpy().astype(np.float32)
        np.testing.assert_array_equal(got, expected)


def test_a_recording_on_a_store_is_named_by_its_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    uri = "s3://bucket/talks/a.wav?region=eu-west-1"
    file = tmp_path / "a.audformat.csv"
    file.write_bytes(render(made_predicted(uri)))
    index = audformat.utils.read_csv(str(file)).index
    assert set(index.get_level_values("file")) == {uri}

"""Labels for Audacity: three columns parted by tabs."""

from __future__ import annotations

import io

import pandas as pd

from tests.helpers.predicted import VALENCE, made_predicted
from valence.prediction.outputs.audacity import render


def _read(content: bytes) -> pd.DataFrame:
    names = ["start", "end", "text"]
    return pd.read_csv(io.BytesIO(content), sep="\t", header=None, names=names, dtype={"text": str})


def test_labels_stand_in_the_order_of_their_starts() -> None:
    content = render(made_predicted("/d/talk.wav"))
    lines = content.decode("ascii").splitlines()
    assert lines[:3] == [
        "0.000000\t0.500000\t0.000",
        "0.500000\t1.000000\t0.400",
        "0.500000\t2.500000\tvalence high 0.438",
    ]
    table = _read(content)
    assert table["start"].is_monotonic_increasing
    assert (table["end"] > table["start"]).all()
    values = table[~table["text"].str.startswith("valence")]
    assert len(values) == 19
    assert (values["text"].astype(float) - VALENCE[:19]).abs().max() < 5e-4
    passages = table[table["text"].str.startswith("valence")]
    assert passages["text"].tolist() == ["valence high 0.438", "valence low -0.425"]


def test_labels_of_two_targets_name_theirs() -> None:
    table = _read(render(made_predicted("/d/talk.wav", targets=("valence", "arousal"))))
    assert set(table["text"].str.split().str[0]) == {"valence", "arousal"}
    assert table["text"].tolist()[:2] == ["valence 0.000", "arousal -0.900"]

"""`valence import` on a made corpus of each form, and on what must not be imported."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pipelines import cli
from pipelines.corpora.importing import ImportOptions, hint_of_import, import_corpus
from tests.helpers import made_corpora as made
from tests.helpers.consoles import RecordedConsole
from valence.config import Config
from valence.corpus.annotations import read_annotation
from valence.corpus.muse import Corpus, read_corpus
from valence.errors import CorpusError, OutputError, UsageError, ValenceError
from valence.segments.inspection import check_corpus
from valence.segments.jobs import Job
from valence.segments.preprocessing import process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

# The middle of each half second, and the curve there; a sample of 0.5 s is that value, and the
# mean of shorter ones lies within 0.01 of it.
_MIDDLES = [0.5 * number + 0.25 for number in range(12)]
# Recordings of two seconds are long enough.
_SHORT = Config.resolve(Config(), assignments=["sequence.length=4"])
_CURVE = [made.curve(t) for t in _MIDDLES]


def _import(
    source: Path, out: Path, form: str | None = None, *assignments: str, copy: bool = False
) -> tuple[Corpus, list[str]]:
    console = RecordedConsole()
    options = ImportOptions(form, assignments, placing="copy" if copy else "link")
    corpus = import_corpus(Location.parse(source), Location.parse(out), options, console=console)
    return corpus, console.lines


def _labels(out: Path, name: str, target: str = "valence") -> np.ndarray:
    return read_annotation(
        Location.parse(out / f"label_segments/{target}/{name}.csv")
    ).value.astype(float)


def _record(out: Path) -> dict[str, object]:
    return json.loads((out / "metadata/import.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", sorted(made.FORMS))
def test_each_form_is_recognised_imported_and_checked(form: str, tmp_path: Path) -> None:
    made.FORMS[form](tmp_path / "source")
    corpus, lines = _import(tmp_path / "source", tmp_path / "out")
    assert f"in the form {form} " in lines[0]
    assert corpus.recordings
    assert corpus.missing == ()
    findings = check_corpus(corpus, _SHORT)
    assert {finding.problem for finding in findings} == {None}
    assert all(np.isfinite(_labels(tmp_path / "out", each.id)).any() for each in corpus.recordings)
    record = _record(tmp_path / "out")
    assert record["complete"] is True
    assert record["declaration"]["name"] == form  # type: ignore[index]
    assert sorted(record["recordings"]) == [each.id for each in corpus.recordings]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("form", "name", "tolerance"),
    [
        ("muse-toolbox", "11", 0.005),
        ("carma", "talk", 1e-5),
        ("msp-conversation", "MSP-Conversation_0002_1", 0.02),
        ("msp-conversation", "MSP-Conversation_0002_2", 0.02),
        ("recola-gold", "train_1", 0.012),
        ("sewa", "Devel_HU_01", 0.005),
        ("send", "112_3", 1e-5),
        ("send-self", "112_3", 1e-5),
        ("case", "sub1", 0.005),
        ("case-interpolated", "sub_1", 0.005),
        ("nova", "001_expert", 0.012),
    ],
)
def test_a_label_is_the_mean_of_its_half_second_on_the_scale(
    form: str, name: str, tolerance: float, tmp_path: Path
) -> None:
    made.FORMS[form](tmp_path / "source")
    _import(tmp_path / "source", tmp_path / "out")
    found = _labels(tmp_path / "out", name)
    assert found.shape == (12,)
    np.testing.assert_allclose(found, _CURVE, atol=tolerance)


def test_irregular_times_of_carma_are_ends(tmp_path: Path) -> None:
    made.carma(tmp_path / "source")
    file = tmp_path / "source/valence/talk.csv"
    head = file.read_text().splitlines()[:9]
    # On the scale of 0 to 100: 55 up to 1 s, 65 from there to 3 s, 70 to 4 s, 80 to 6 s.
    made.write_text(file, *head, "1,55", "3,65", "4,70", "6,80")
    _import(tmp_path / "source", tmp_path / "out")
    expected = [0.1] * 2 + [0.3] * 4 + [0.4] * 2 + [0.6] * 4
    np.testing.assert_allclose(_labels(tmp_path / "out", "talk"), expected, atol=1e-6)


def test_joined_files_keep_their_labels_to_themselves(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for video, rating, seconds in ((1, 0, 3), (2, 100, 10)):
        made.write_audio(source / f"ID1_vid{video}.wav", seconds=seconds, seed=video)
        lines = [f"{row / 2},{rating}" for row in range(14 if video == 1 else 20)]
        made.write_text(
            source / f"Train/target/target_1_{video}_normal.csv", "time, rating", *lines
        )
    _, said = _import(source, tmp_path / "out", "send-self", "join=subject")
    assert _labels(tmp_path / "out", "1").tolist() == [-1] * 6 + [1] * 20
    remarks = [line for line in said if "before or behind its sound" in line]
    assert len(remarks) == 1
    assert "'1' has 8 valence samples of '1_1'" in remarks[0]


def test_bins_that_darma_missed_are_left_out_of_the_mean(tmp_path: Path) -> None:
    made.darma(tmp_path / "source")
    _import(tmp_path / "source", tmp_path / "out")
    found = _labels(tmp_path / "out", "talk")
    # Row 4, the second quarter of segment 1, is NaN: its label is the value at 0.625 s.
    assert found[1] == pytest.approx(made.curve(0.625), abs=1e-4)
    assert found[0] == pytest.approx((made.curve(0.125) + made.curve(0.375)) / 2, abs=1e-4)
    np.testing.assert_allclose(_labels(tmp_path / "out", "talk", "arousal"), -found, atol=1e-6)


def test_five_second_ratings_label_every_segment_they_cover(tmp_path: Path) -> None:
    made.k_emocon(tmp_path / "source")
    corpus, lines = _import(tmp_path / "source", tmp_path / "out")
    # 2 and 4 on the scale of 1 to 5 are -0.5 and 0.5; the last 2 of 12 s have no rating.
    expected = [-0.5] * 10 + [0.5] * 10 + [math.nan] * 4
    for name in ("1", "2"):
        np.testing.assert_allclose(_labels(tmp_path / "out", name), expected, atol=1e-6)
    arousal = _labels(tmp_path / "out", "1", "arousal")
    np.testing.assert_allclose(arousal, [0.0] * 10 + [math.nan] * 14, atol=1e-6)
    assert {each.audio.name for each in corpus.recordings} == {"1.wav", "2.wav"}
    # Both speakers are heard in the one sound of their debate.
    assert any("2 recordings share their sound" in line for line in lines)


def test_spans_of_audformat_leave_the_rest_empty(tmp_path: Path) -> None:
    made.audformat(tmp_path / "source")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out")
    nan = math.nan
    by_hand = {
        "001": [-1, -1, nan, nan, nan, 1, 1, nan, nan, nan, nan, nan],
        "002": [nan] * 8 + [0.5] * 4,
        "003": [0] * 12,
    }
    for name, expected in by_hand.items():
        np.testing.assert_allclose(_labels(tmp_path / "out", name), expected, atol=1e-6)
    assert [(each.subject, each.partition) for each in corpus.recordings] == [
        ("s1", "train"),
        ("s2", "train"),
        ("s3", "devel"),
    ]


def test_one_value_a_file_labels_all_its_segments(tmp_path: Path) -> None:
    made.msp_podcast(tmp_path / "source")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out")
    # EmoVal 7, 6, 5, 4 and EmoAct 1, 2, 3, 4 on the scale of 1 to 7; 2.75 s are 5 segments.
    for number, recording in enumerate(corpus.recordings):
        np.testing.assert_allclose(
            _labels(tmp_path / "out", recording.id), [1 - number / 3] * 5, atol=1e-6
        )
        arousal = _labels(tmp_path / "out", recording.id, "arousal")
        np.testing.assert_allclose(arousal, [-1 + number / 3] * 5, atol=1e-6)
    assert [each.partition for each in corpus.recordings] == ["train", "train", "devel", "test"]
    assert [each.subject for each in corpus.recordings][:3] == ["1", "1", "2"]
    # Nobody knows who speaks in the last one.
    assert "Unknown" not in {each.subject for each in corpus.recordings}


def test_files_of_a_speaker_are_joined(tmp_path: Path) -> None:
    made.msp_podcast(tmp_path / "source")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out", None, "join=subject")
    assert [each.id for each in corpus.recordings] == ["1", "2", "MSP-PODCAST_0001_0003"]
    joined = soundfile.info(tmp_path / "out/raw_data/audio/1.wav")
    assert joined.duration == pytest.approx(5.5)
    # The middle of segment 5 is 2.75 s, where the second file begins.
    expected = [1.0] * 5 + [2 / 3] * 6
    np.testing.assert_allclose(_labels(tmp_path / "out", "1"), expected, atol=1e-6)
    first, _ = soundfile.read(tmp_path / "source/Audios/MSP-PODCAST_0001_0001.wav", dtype="float32")
    whole, _ = soundfile.read(tmp_path / "out/raw_data/audio/1.wav", dtype="float32")
    np.testing.assert_array_equal(whole[len(first) :], first)


def test_scales_of_the_targets_may_differ_and_the_path_names_the_partition(tmp_path: Path) -> None:
    made.omg(tmp_path / "source")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out")
    assert _labels(tmp_path / "out", "abc_1_utterance_1").tolist() == [-0.5] * 4
    # 0.25 on the scale of 0 to 1.
    assert _labels(tmp_path / "out", "abc_1_utterance_1", "arousal").tolist() == [-0.5] * 4
    assert {(each.id, each.partition, each.subject) for each in corpus.recordings} == {
        ("abc_1_utterance_1", "train", "abc_1"),
        ("abc_1_utterance_2", "train", "abc_1"),
        ("d-E_utterance_1", "devel", "d-E"),
        ("d-E_utterance_2", "devel", "d-E"),
    }


def test_parts_of_a_conversation_are_cut_from_its_sound(tmp_path: Path) -> None:
    made.msp_conversation(tmp_path / "source")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out")
    y, sr = soundfile.read(tmp_path / "source/Audio/MSP-Conversation_0002.wav", dtype="float32")
    second = tmp_path / "out/raw_data/audio/MSP-Conversation_0002_2.wav"
    cut, _ = soundfile.read(second, dtype="float32")
    # The conversation begins at 100 s of the podcast, and the part at 107 s.
    np.testing.assert_array_equal(cut, y[7 * sr : 13 * sr])
    assert [each.partition for each in corpus.recordings] == ["train", "train"]


def test_a_conversation_whose_begin_is_not_known_is_set_aside(tmp_path: Path) -> None:
    made.msp_conversation(tmp_path / "source")
    times = tmp_path / "source/Time_Labels"
    made.write_text(times / "test2_conversation_parts.txt", "MSP-Conversation_0009_1;5.0;11.0")
    annotations = tmp_path / "source/Annotations/Valence"
    first = annotations / "MSP-Conversation_0002_1_001.csv"
    (annotations / "MSP-Conversation_0009_1_001.csv").write_bytes(first.read_bytes())
    made.write_audio(tmp_path / "source/Audio/MSP-Conversation_0009.wav", seconds=20)
    corpus, lines = _import(tmp_path / "source", tmp_path / "out")
    assert len(corpus.recordings) == 2
    assert any(
        "test2_conversation_parts.txt', line 1: the begin of the audio file "
        "'MSP-Conversation_0009' is 'not named'" in line
        for line in lines
    )


@pytest.mark.parametrize("form", ["recola-gold", "msp-podcast"])
def test_an_imported_corpus_is_preprocessed_with_its_labels(form: str, tmp_path: Path) -> None:
    made.FORMS[form](tmp_path / "source")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out")
    store = SegmentStore(Location.parse(tmp_path / "segments"))
    recording = corpus.recordings[0]
    outcome = process_recording(Job(recording, "train", 0), store, _SHORT)
    assert outcome.status == "ok"
    labels = _labels(tmp_path / "out", recording.id)
    assert outcome.labelled == len(labels) == outcome.segments


@pytest.mark.parametrize(
    ("make", "raters"),
    [
        (made.recola, "'FF1', 'FM1', 'FM2'"),
        (made.muse_raw, "'1', '2', '3'"),
        (lambda root: made.darma(root, raters=("ann", "bob")), "'ann', 'bob'"),
        (lambda root: made.msp_conversation(root, raters=("001", "002")), "'001', '002'"),
    ],
)
def test_several_raters_are_refused_and_fuse_is_named(
    make: Callable[[Path], None], raters: str, tmp_path: Path
) -> None:
    make(tmp_path / "source")
    with pytest.raises(UsageError, match="several raters") as refused:
        _import(tmp_path / "source", tmp_path / "out")
    assert raters in str(refused.value)
    assert f"valence fuse '{tmp_path / 'source'}' --out" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_ratings_of_a_single_rater_are_taken_with_a_remark(tmp_path: Path) -> None:
    made.darma(tmp_path / "source")
    _, lines = _import(tmp_path / "source", tmp_path / "out")
    assert any("ratings of single raters ('ann')" in line for line in lines)


def test_a_folder_that_fits_two_forms_is_refused(tmp_path: Path) -> None:
    made.send(tmp_path / "source")
    made.send_self(tmp_path / "source")
    with pytest.raises(UsageError, match=r"2 forms: send .*; send-self .*--form send"):
        _import(tmp_path / "source", tmp_path / "out")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out", "send-self")
    assert [each.partition for each in corpus.recordings] == ["devel"]


def test_a_folder_in_no_form_is_refused_with_the_forms(tmp_path: Path) -> None:
    made.write_text(tmp_path / "source/valence/1.csv", "seconds,rating", "0,0.1", "1,0.2")
    with pytest.raises(UsageError, match=r"none of the forms .* muse-toolbox.* own"):
        _import(tmp_path / "source", tmp_path / "out")


def test_a_declaration_of_ones_own_with_delay(tmp_path: Path) -> None:
    source = tmp_path / "source"
    made.write_audio(source / "sound/Kim_1.flac", seconds=3)
    made.write_text(
        source / "curves/Kim_1.txt",
        "t|v".replace("|", "\t"),
        *(f"{t},{d}\t{v}" for t, d, v in [(0, 0, 7), (0, 5, 7), (1, 0, 1), (1, 5, "-"), (2, 0, 4)]),
    )
    form = tmp_path / "mine.toml"
    form.write_text(
        """
name = "mine"
title = "My curves"
id_parts = '(?P<who>[A-Za-z]+)_\\d+'
[[labels]]
files = ["curves/{id}.txt"]
separator = "tab"
decimal = "comma"
time = "t"
valence = "v"
scale = [1, 7]
missing = ["-"]
delay = 0.5
[subjects]
template = "{who}"
"""
    )
    corpus, _ = _import(source, tmp_path / "out", str(form))
    # With a delay of 0.5 s the first row falls before the begin, and all others a segment earlier.
    np.testing.assert_allclose(
        _labels(tmp_path / "out", "Kim_1"), [1, -1, math.nan, 0, math.nan, math.nan], atol=1e-6
    )
    assert [each.subject for each in corpus.recordings] == ["Kim"]
    assert (tmp_path / "out/raw_data/audio/Kim_1.flac").is_symlink()


def test_channels_and_turns_become_recordings_of_one_speaker(tmp_path: Path) -> None:
    source = tmp_path / "source"
    made.write_audio(source / "talk.wav", seconds=8, channels=2)
    made.write_text(
        source / "turns.csv",
        "who,file,from,to,channel",
        "ann,talk.wav,0,2,0",
        "ann,talk.wav,5,6,0",
        "bob,talk.wav,2,5,1",
    )
    for who, shift in (("ann", 0), ("bob", 1)):
        values = [f"{t},{t / 8 - shift}" for t in range(8)]
        made.write_text(source / f"valence/{who}.csv", "s,v", *values)
    form = tmp_path / "turns.toml"
    form.write_text(
        """
name = "turns"
title = "Turns of a conversation"
audio = ["{audio}"]
[[labels]]
files = ["{target}/{id}.csv"]
time = "s"
value = "v"
[cut]
file = ["turns.csv"]
id = "{who}"
audio = "file"
start = "from"
end = "to"
channel = "channel"
times = "file"
"""
    )
    _import(source, tmp_path / "out", str(form))
    y, sr = soundfile.read(source / "talk.wav", dtype="float32")
    ann, _ = soundfile.read(tmp_path / "out/raw_data/audio/ann.wav", dtype="float32")
    np.testing.assert_array_equal(ann, np.concatenate([y[: 2 * sr, 0], y[5 * sr : 6 * sr, 0]]))
    bob, _ = soundfile.read(tmp_path / "out/raw_data/audio/bob.wav", dtype="float32")
    np.testing.assert_array_equal(bob, y[2 * sr : 5 * sr, 1])
    # A second of ann's is t = 0, 1 and then 5; bob's are t = 2, 3, 4.
    np.testing.assert_allclose(_labels(tmp_path / "out", "ann"), [0, 0, 1 / 8, 1 / 8, 5 / 8, 5 / 8])
    bobs = np.repeat([2 / 8 - 1, 3 / 8 - 1, 4 / 8 - 1], 2)
    np.testing.assert_allclose(_labels(tmp_path / "out", "bob"), bobs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("0,0.", "0,9.", 1), r"line 2: .* 9\.\d+.*from -1 to 1"),
        (lambda text: text.replace("250,", "0.25,", 1), "Expected rows|sorted"),
        (lambda text: text.replace("\n500,", "\n250,", 1), "line 4: the time is 0.25"),
        (lambda text: text.replace("\n750,0.", "\n750,x", 1), "line 5: the value is 'x"),
        (lambda text: text.replace("Time,value", "Time,rating"), "none is called 'value'"),
        (lambda text: "Time,value\n", "holds no row"),
        (lambda text: "", "holds no row"),
        (lambda text: "version https://git-lfs.github.com/spec/v1\noid", "was not fetched"),
    ],
)
def test_a_bad_label_file_is_set_aside_and_costs_no_other(
    change: Callable[[str], str], words: str, tmp_path: Path
) -> None:
    made.muse_toolbox(tmp_path / "source")
    file = tmp_path / "source/out/ewe/valence/11.csv"
    file.write_text(change(file.read_text()))
    corpus, lines = _import(tmp_path / "source", tmp_path / "out", "muse-toolbox")
    assert [each.id for each in corpus.recordings] == ["11", "32"]
    if "sorted" not in words:
        aside = _record(tmp_path / "out")["set_aside"]
        (message,) = [each for each in aside if str(file) in each]  # type: ignore[attr-defined]
        assert re.search(words, message), message
        assert any(message in line for line in lines)
        assert not (tmp_path / "out/label_segments/valence/11.csv").exists()
    assert (tmp_path / "out/label_segments/arousal/11.csv").exists()


@pytest.mark.parametrize("unit", ["ms", "s"])
def test_times_of_another_unit_are_refused(unit: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    made.write_audio(source / "1.wav", seconds=20)
    factor = 1000 if unit == "ms" else 0.001
    lines = [f"{t * factor:g},0.5" for t in range(20)]
    made.write_text(source / "valence/1.csv", "t,v", *lines)
    form = tmp_path / "mine.toml"
    declared = "s" if unit == "ms" else "ms"
    # Declared as the other unit, 20 s become 20,000 s or 0.02 ms.
    form.write_text(
        f"""
name = "mine"
title = "Mine"
[[labels]]
files = ["{{target}}/{{id}}.csv"]
time = "t"
unit = "{declared}"
value = "v"
"""
    )
    if unit == "s":
        made.write_text(source / "valence/1.csv", "t,v", *(f"{t},0.5" for t in range(20)))
    with pytest.raises(ValenceError, match=f"seem to count {unit}"):
        _import(source, tmp_path / "out", str(form))
    corpus, _ = _import(source, tmp_path / "out", str(form), f"labels.unit={unit}")
    assert np.isfinite(_labels(tmp_path / "out", corpus.recordings[0].id)).all()


def test_a_step_of_another_unit_is_refused_before_sound_is_looked_at(tmp_path: Path) -> None:
    made.sewa(tmp_path / "source")
    for file in (tmp_path / "source/labels").iterdir():
        lines = made.rows(0.1, lambda t, v: f"'x';{t * 1000:g};0;{v:.3f};0")
        made.write_text(file, "name;timestamp;arousal;valence;liking", *lines)
    with pytest.raises(CorpusError, match=r"rows 100 s apart.*seem to count ms.*labels.unit=ms"):
        _import(tmp_path / "source", tmp_path / "out", "sewa")


def test_files_of_a_table_that_are_not_there_are_named_with_their_line(tmp_path: Path) -> None:
    made.msp_podcast(tmp_path / "source")
    (tmp_path / "source/Audios/MSP-PODCAST_0001_0001.wav").unlink()
    corpus, lines = _import(tmp_path / "source", tmp_path / "out")
    assert len(corpus.recordings) == 3
    (line,) = [line for line in lines if "no audio file" in line]
    assert "'MSP-PODCAST_0001_0001', named in" in line
    assert "labels_consensus.csv', line 3, has" in line


def test_without_any_sound_nothing_is_written(tmp_path: Path) -> None:
    made.send(tmp_path / "source")
    (tmp_path / "source/features/ID112_vid3.wav").unlink()
    with pytest.raises(CorpusError, match=r"no audio file of '112_3'.*--audio DIR"):
        _import(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_sound_is_set_aside(tmp_path: Path) -> None:
    made.sewa(tmp_path / "source")
    (tmp_path / "source/audio/Train_DE_01.wav").write_bytes(b"RIFF")
    corpus, _ = _import(tmp_path / "source", tmp_path / "out")
    assert [each.id for each in corpus.recordings] == ["Devel_HU_01"]
    assert any("Train_DE_01" in each for each in _record(tmp_path / "out")["set_aside"])  # type: ignore[attr-defined]


def test_names_in_two_unicode_forms_are_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    made.muse_toolbox(source, ids=("Zoe\u0308", "2"))
    (source / "audio/Zoe\u0308.wav").rename(source / "audio/Zo\u00eb.wav")
    corpus, _ = _import(source, tmp_path / "out")
    assert [each.id for each in corpus.recordings] == ["2", "Zo\u00eb"]
    assert [each.partition for each in corpus.recordings] == ["test", "train"]


def test_two_sounds_of_one_id_are_refused(tmp_path: Path) -> None:
    made.send(tmp_path / "source")
    made.write_audio(tmp_path / "source/other/ID112_vid3.wav")
    with pytest.raises(CorpusError, match="'112_3' has 2 audio files"):
        _import(tmp_path / "source", tmp_path / "out")


def test_two_files_of_one_curve_are_refused(tmp_path: Path) -> None:
    made.muse_toolbox(tmp_path / "source")
    made.write_text(tmp_path / "source/out/dba/valence/11.csv", "Time,value", "0,0.1", "250,0.1")
    with pytest.raises(CorpusError, match="a gold standard of valence for '11', and so does"):
        _import(tmp_path / "source", tmp_path / "out")


def test_labels_behind_the_end_are_dropped_with_a_remark(tmp_path: Path) -> None:
    made.send(tmp_path / "source")
    made.write_audio(tmp_path / "source/features/ID112_vid3.wav", seconds=3)
    _, lines = _import(tmp_path / "source", tmp_path / "out")
    assert len(_labels(tmp_path / "out", "112_3")) == 6
    assert any("has valence labels for 3 s behind its end" in line for line in lines)


def test_the_same_import_again_changes_nothing_and_follows_its_source(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    made.sewa(source)
    _import(source, out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    _import(source, out)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    (out / "raw_data/audio/own.txt").write_text("kept")
    (source / "labels/Devel_HU_01.csv").unlink()
    corpus, _ = _import(source, out)
    assert [each.id for each in corpus.recordings] == ["Train_DE_01"]
    assert not (out / "label_segments/valence/Devel_HU_01.csv").exists()
    assert (out / "raw_data/audio/own.txt").read_text() == "kept"


def test_an_import_that_was_killed_is_done_again(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    made.sewa(source)
    _import(source, out)
    record = _record(out)
    # A kill between the first and the last writing of the record leaves this.
    files = dict.fromkeys(record["files"], "")  # type: ignore[call-overload]
    (out / "metadata/import.json").write_text(
        json.dumps(record | {"complete": False, "files": files, "recordings": {}})
    )
    (out / "label_segments/valence/Train_DE_01.csv").write_text("timestamp,value\n0,")
    _import(source, out)
    assert _record(out) == record


def test_an_edit_is_not_overwritten(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    made.sewa(source)
    _import(source, out)
    (out / "metadata/partition.csv").write_text("Id,Proposal\nTrain_DE_01,test\n")
    with pytest.raises(OutputError, match=r"partition.csv' was changed since it was imported"):
        _import(source, out)
    assert "Train_DE_01,test" in (out / "metadata/partition.csv").read_text()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    made.sewa(tmp_path / "source")
    made.send(tmp_path / "other")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        _import(tmp_path / "source", tmp_path / "out")
    _import(tmp_path / "other", tmp_path / "made")
    with pytest.raises(OutputError, match="from another source, in another form"):
        _import(tmp_path / "source", tmp_path / "made")
    with pytest.raises(UsageError, match="lies in the source"):
        _import(tmp_path / "source", tmp_path / "source/corpus")


def test_copies_stand_alone(tmp_path: Path) -> None:
    made.sewa(tmp_path / "source")
    _import(tmp_path / "source", tmp_path / "out", copy=True)
    copy = tmp_path / "out/raw_data/audio/Train_DE_01.wav"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (tmp_path / "source/audio/Train_DE_01.wav").read_bytes()


def test_ids_that_decide_the_protocol_are_remarked_on(tmp_path: Path) -> None:
    made.muse_toolbox(tmp_path / "source", ids=("1_train", "2"))
    _, lines = _import(tmp_path / "source", tmp_path / "out")
    assert any("1 Id ('1_train' first) ends in _train" in line for line in lines)


def test_names_with_blanks_at_their_ends_are_found(tmp_path: Path) -> None:
    made.muse_toolbox(tmp_path / "source", ids=(" 1", "2 "))
    corpus, _ = _import(tmp_path / "source", tmp_path / "out")
    assert [each.id for each in corpus.recordings] == ["1", "2"]
    assert {each.partition for each in corpus.recordings} == {"train", "test"}


def test_what_is_wrong_is_said_in_whole_sentences(tmp_path: Path) -> None:
    made.carma(tmp_path / "source")
    sound = tmp_path / "source/talk.wav"
    made.write_audio(sound, seconds=0.3)
    with pytest.raises(CorpusError, match=r"lasts 0.3 s. Expected 0.5 s at least") as short:
        _import(tmp_path / "source", tmp_path / "out")
    sound.write_bytes(b"")
    with pytest.raises(CorpusError, match="is empty") as empty:
        _import(tmp_path / "source", tmp_path / "out2")
    for refused in (short, empty):
        assert ".." not in str(refused.value).replace(str(tmp_path), "")
    options = ImportOptions(audio=Location.parse(tmp_path / "no"))
    source, out = Location.parse(tmp_path / "source"), Location.parse(tmp_path / "out3")
    with pytest.raises(CorpusError, match=r"no such folder.*holds its sound \(--audio DIR\)"):
        import_corpus(source, out, options, console=RecordedConsole())


def test_check_names_the_import_that_reads_a_folder(tmp_path: Path) -> None:
    made.carma(tmp_path / "source")
    result = CliRunner().invoke(cli.app, ["check", str(tmp_path / "source")])
    assert isinstance(result.exception, CorpusError)
    assert f"run: valence import '{tmp_path / 'source'}' --form carma" in str(result.exception)
    # A corpus in the MuSe layout, and a folder in no known form, are checked as before.
    _import(tmp_path / "source", tmp_path / "out")
    assert hint_of_import(Location.parse(tmp_path / "out")) is None
    assert hint_of_import(Location.parse(tmp_path)) is not None
    (tmp_path / "empty").mkdir()
    assert hint_of_import(Location.parse(tmp_path / "empty")) is None
    assert hint_of_import(Location.parse(tmp_path / "absent")) is None


def test_the_command_imports(tmp_path: Path) -> None:
    made.recola_gold(tmp_path / "source")
    arguments = ["import", str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--copy"]
    result = CliRunner().invoke(cli.app, [*arguments, "--declare", "labels.delay=0.5"])
    assert result.exception is None, result.output
    corpus = read_corpus(Location.parse(tmp_path / "out"))
    assert [each.id for each in corpus.recordings] == ["dev_1", "train_1"]
    # The rating at 0.5 s and later describes the sound half a second earlier.
    assert _labels(tmp_path / "out", "dev_1")[0] == pytest.approx(_CURVE[1], abs=0.01)


def test_a_source_on_an_object_store(
    object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    root = Location.parse(
        f"s3://shared/sources?endpoint_override={object_store}&scheme=http&region=us-east-1"
    )
    made.msp_conversation(tmp_path / "source")
    for file in (tmp_path / "source").rglob("*.*"):
        (root / file.relative_to(tmp_path / "source").as_posix()).write_bytes(file.read_bytes())
    console = RecordedConsole()
    corpus = import_corpus(root, Location.parse(tmp_path / "out"), ImportOptions(), console=console)
    assert [each.id for each in corpus.recordings] == [
        "MSP-Conversation_0002_1",
        "MSP-Conversation_0002_2",
    ]
    np.testing.assert_allclose(
        _labels(tmp_path / "out", "MSP-Conversation_0002_2"), _CURVE, atol=0.02
    )

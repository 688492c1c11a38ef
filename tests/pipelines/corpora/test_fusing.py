"""From a folder of raters to a corpus: `valence fuse` on made raters whose true curve is known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.corpora.fusing import fuse_corpus
from pipelines.corpora.importing import ImportOptions
from tests.helpers.consoles import RecordedConsole
from tests.helpers.made_corpora import RATED, darma, muse_toolbox, write_audio, write_text
from tests.helpers.raters import CONTRARY, STEP, Panel, simulated
from valence.config import Config, FuseConfig
from valence.corpus.annotations import read_annotation
from valence.errors import CorpusError, OutputError, UsageError
from valence.fusion.record import read_agreement
from valence.metrics import concordance
from valence.segments.inspection import check_corpus
from valence.storage.location import Location

_OPTIONS = ImportOptions(assignments=("labels.scale=[-500,500]",))
_WAVE = 100 * np.sin(np.arange(40) / 5)


def _write_raters(file: Path, values: np.ndarray) -> None:
    """Write raters as MuSe-CaR's raw ratings are: a column each, times at the end of a step."""
    rows = [
        f"{(place + 1) * STEP:g}," + ",".join("" if np.isnan(v) else f"{v:.3f}" for v in column)
        for place, column in enumerate(values.T)
    ]
    write_text(file, "timestamp," + ",".join(str(n) for n in range(len(values))), *rows)


@pytest.fixture(scope="module")
def panels() -> dict[str, Panel]:
    return {name: simulated(seed, id=name) for seed, name in enumerate(("1", "2"))}


@pytest.fixture
def source(tmp_path: Path, panels: dict[str, Panel]) -> Location:
    root = tmp_path / "raters"
    for name, panel in panels.items():
        write_audio(root / f"audio/{name}.wav", seconds=300)
        _write_raters(root / f"raw/valence/{name}.csv", np.array([t.value for t in panel.traces]))
    write_audio(root / "audio/opposed.wav", seconds=10)
    _write_raters(root / "raw/valence/opposed.csv", np.array([_WAVE, -_WAVE]))
    _write_raters(root / "raw/valence/silent.csv", np.array([_WAVE, _WAVE]))
    write_text(root / "metadata/partition.csv", "id,partition", "1,train", "2,devel")
    return Location.parse(root)


def _labels(out: Location, name: str) -> np.ndarray:
    return read_annotation(out / f"label_segments/valence/{name}.csv").value


def test_raters_become_a_corpus_with_their_agreement(
    source: Location, tmp_path: Path, panels: dict[str, Panel]
) -> None:
    out = Location.parse(tmp_path / "corpus")
    console = RecordedConsole()
    corpus = fuse_corpus(source, out, _OPTIONS, FuseConfig(figures=1), console=console)
    assert [recording.id for recording in corpus.recordings] == ["1", "2"]
    assert [recording.partition for recording in corpus.recordings] == ["train", "devel"]
    for name, panel in panels.items():
        label = _labels(out, name)
        true = panel.true.reshape(-1, 2).mean(axis=1)
        known = np.isfinite(label)
        assert label.shape == (600,)
        assert known.mean() > 0.98
        assert concordance(true[known], label[known]) > 0.95
    said = "\n".join(console.lines)
    assert "raters agree at CCC 0." in said
    assert f"rater '{CONTRARY}' correlates negatively" in said
    assert "'opposed' has no fused valence: raters '0', '1' oppose each other" in said
    assert "has no audio file" in said
    # A recording that was set aside is named once, and still counts in how well raters agree.
    assert len([line for line in console.lines if "'opposed'" in line]) == 1
    assert "as they rated (3 recordings), and at" in said
    assert "after all steps (2 recordings)" in said
    agreement, remark = read_agreement(out)
    assert remark == ""
    assert agreement is not None
    assert agreement["valence"]["recordings"] == 2
    record = (out / "metadata/fusion.json").read_json()
    delays = [part["delay"] for part in record["recordings"]["1"]["valence"]["raters"]]
    assert np.abs(np.array(delays) - panels["1"].delays * STEP).max() <= STEP
    assert [file.name for file in (out / "metadata/raters/valence").files()] == ["1.png"]
    origin = (out / "metadata/import.json").read_json()
    assert origin["command"] == "fuse"
    assert origin["fuse"]["method"] == "ewe"
    assert origin["recordings"]["1"]["labels"]["valence"]["from"] == [
        str(source / "raw/valence/1.csv")
    ]


def test_the_same_call_again_changes_nothing_and_another_is_refused(
    source: Location, tmp_path: Path
) -> None:
    out = Location.parse(tmp_path / "corpus")

    def fuse(settings: FuseConfig) -> dict[str, bytes]:
        fuse_corpus(source, out, _OPTIONS, settings, console=RecordedConsole())
        files = sorted(path for path in Path(out.path).rglob("*") if path.is_file())
        content = {str(path): path.read_bytes() for path in files}
        # The record notes when its files were written.
        record = f"{out.path}/metadata/fusion.json"
        content[record] = re.sub(rb'"mtime_ns": \d+', b"", content[record])
        return content

    first = fuse(FuseConfig(figures=1))
    assert fuse(FuseConfig(figures=1)) == first
    with pytest.raises(OutputError, match="Expected the same, or a new folder"):
        fuse(FuseConfig(method="mean"))
    assert read_agreement(out)[0] is not None


def test_messages_name_the_command_that_is_to_run_again(source: Location, tmp_path: Path) -> None:
    def fuse(out: str, **settings: str) -> None:
        fuse_corpus(
            source,
            Location.parse(tmp_path / out),
            _OPTIONS,
            FuseConfig.model_validate({"figures": 0, **settings}),
            console=RecordedConsole(),
        )

    write_text(tmp_path / "other/notes.txt", "mine")
    with pytest.raises(OutputError, match="not empty, and was not written by 'valence fuse'"):
        fuse("other")
    fuse("corpus")
    with pytest.raises(OutputError, match="was written by 'valence fuse' from another source"):
        fuse("corpus", method="mean")
    (tmp_path / "corpus/metadata/partition.csv").write_text("Id,Proposal\n")
    with pytest.raises(OutputError, match=r"partition.csv' was changed since it was written by"):
        fuse("corpus")
    for name in ("1", "2", "silent"):
        Path(source.path, f"raw/valence/{name}.csv").unlink()
    with pytest.raises(CorpusError, match=r"'opposed' has no fused.*run 'valence fuse' again"):
        fuse("none")
    for sound in Path(source.path, "audio").glob("*.wav"):
        sound.write_bytes(b"no sound")
    with pytest.raises(CorpusError, match="run 'valence fuse' again"):
        fuse("silent")


def test_two_who_oppose_are_drawn_as_they_rated(source: Location, tmp_path: Path) -> None:
    out = Location.parse(tmp_path / "corpus")
    fuse_corpus(source, out, _OPTIONS, FuseConfig(), console=RecordedConsole())
    drawn = [file.name for file in (out / "metadata/raters/valence").files()]
    assert sorted(drawn) == ["1.png", "2.png", "opposed.png"]


def test_the_command_takes_steps_and_declaration_and_check_states_the_agreement(
    source: Location, tmp_path: Path
) -> None:
    out = str(tmp_path / "corpus")
    (tmp_path / "steps.toml").write_text("[fuse]\nmethod = 'median'\nfigures = 0\n")
    run = CliRunner().invoke(
        app,
        [
            *("fuse", str(source), "--out", out, "--form", "muse-raw"),
            *("--config", str(tmp_path / "steps.toml"), "--set", "fuse.smooth=none"),
            *("--declare", "labels.scale=[-500,500]"),
        ],
        catch_exceptions=False,
    )
    assert run.exit_code == 0
    record = Location.parse(f"{out}/metadata/fusion.json").read_json()
    assert (record["settings"]["method"], record["settings"]["smooth"]) == ("median", "none")
    assert not Path(out, "metadata/raters").exists()
    checked = CliRunner().invoke(app, ["check", out], catch_exceptions=False)
    assert "Raters of valence agree at CCC 0." in checked.output
    label = Path(out, "label_segments/valence/1.csv")
    label.write_text(f"{label.read_text()}\n")
    checked = CliRunner().invoke(app, ["check", out], catch_exceptions=False)
    assert "Raters of valence" not in checked.output
    assert "speaks of other labels and is not stated" in " ".join(checked.output.split())


def test_values_beyond_the_declared_scale_set_nothing_right_in_silence(
    source: Location, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=r"scale|range|from -1"):
        fuse_corpus(
            source,
            Location.parse(tmp_path / "corpus"),
            ImportOptions(),
            Config().fuse,
            console=RecordedConsole(),
        )


def test_a_ready_gold_standard_is_sent_to_import(tmp_path: Path) -> None:
    muse_toolbox(tmp_path / "ready")
    with pytest.raises(UsageError, match=r"names no rater.*valence import"):
        fuse_corpus(
            Location.parse(tmp_path / "ready"),
            Location.parse(tmp_path / "corpus"),
            ImportOptions(),
            Config().fuse,
            console=RecordedConsole(),
        )


def test_a_single_rater_shows_no_agreement(tmp_path: Path) -> None:
    darma(tmp_path / "alone")
    console = RecordedConsole()
    out = Location.parse(tmp_path / "corpus")
    settings = FuseConfig(figures=0)
    source = Location.parse(tmp_path / "alone")
    fuse_corpus(source, out, ImportOptions(), settings, console=console)
    said = "\n".join(console.lines)
    assert "Nothing shows how well raters of valence agree (1 rater, 1 recording)" in said
    assert "agree at CCC" not in said
    checked = CliRunner().invoke(app, ["check", str(out)])
    assert "Nothing shows how well raters of valence agree" in checked.output


def test_a_part_is_never_all_of_it(tmp_path: Path) -> None:
    root = tmp_path / "raters"
    write_audio(root / "1.wav", seconds=400)
    wave = 100 * np.sin(np.arange(1600) / 9)
    late = np.where(np.arange(1600) < 3, np.nan, wave)
    _write_raters(root / "valence/1.csv", np.array([wave, late]))
    console = RecordedConsole()
    out, settings = Location.parse(tmp_path / "corpus"), FuseConfig(figures=0)
    fuse_corpus(Location.parse(root), out, _OPTIONS, settings, console=console)
    assert any("cover a part of it: '1' (99%)" in line for line in console.lines)


@pytest.mark.parametrize("form", sorted(RATED))
def test_each_form_with_raters_is_recognised_fused_and_checked(form: str, tmp_path: Path) -> None:
    RATED[form](tmp_path / "source")
    console = RecordedConsole()
    source, out = Location.parse(tmp_path / "source"), Location.parse(tmp_path / "corpus")
    corpus = fuse_corpus(source, out, ImportOptions(), FuseConfig(figures=1), console=console)
    assert f"in the form {form} " in console.lines[0]
    short = Config.resolve(Config(), assignments=["sequence.length=4"])
    assert {finding.problem for finding in check_corpus(corpus, short)} == {None}
    assert all(np.isfinite(_labels(out, each.id)).any() for each in corpus.recordings)
    agreement, _ = read_agreement(out)
    assert agreement is not None
    assert agreement["valence"]["raters"] >= 3


def test_one_value_a_recording_is_weighed_over_the_corpus(tmp_path: Path) -> None:
    """Three raters give each file one value; over all files the third one contradicts."""
    root = tmp_path / "values"
    lines = ["file,rater,valence"]
    for number, value in enumerate((1, 2, 4, 5, 3, 2)):
        write_audio(root / f"clip{number}.wav", seconds=1.5)
        lines += [f"clip{number},{name},{value}" for name in "ab"]
        lines.append(f"clip{number},c,{6 - value}")
    write_text(root / "ratings.csv", *lines)
    write_text(
        tmp_path / "form.toml",
        'name = "clips"',
        'title = "one value a clip and rater"',
        "[[labels]]",
        'files = ["ratings.csv"]',
        'id = "{file}"',
        'rater = "rater"',
        'valence = "valence"',
        "scale = [1, 5]",
    )
    out = Location.parse(tmp_path / "corpus")
    settings = FuseConfig(scope="corpus", figures=0)
    options = ImportOptions(str(tmp_path / "form.toml"))
    fuse_corpus(Location.parse(root), out, options, settings, console=RecordedConsole())
    for number, value in enumerate((1, 2, 4, 5, 3, 2)):
        np.testing.assert_allclose(_labels(out, f"clip{number}"), (value - 3) / 2, atol=1e-6)
    record = (out / "metadata/fusion.json").read_json()
    raters = record["recordings"]["clip0"]["valence"]["raters"]
    assert [(each["rater"], each["contrary"]) for each in raters] == [
        ("a", False),
        ("b", False),
        ("c", True),
    ]

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from valence.chain import FREE, refuse_other_settings, require_chain, require_own_config
from valence.config import Config, seal_text
from valence.errors import DamagedError, MissingStageError, StaleError
from valence.run import Run
from valence.stage import StageName

_RECORD = {"corpus": "/data/corpus", "synthetic": False}


def _sections(config: Config, *names: str, **left_out: set[str]) -> dict[str, Any]:
    return {
        name: getattr(config, name).model_dump(mode="json", exclude=left_out.get(name, set()))
        for name in names
    }


def _finish(run: Run, stage: StageName, made_of: dict[str, Any], **summary: Any) -> None:
    made = run.stage(stage)
    made.begin(made_of, overwrite=True)
    (made.folder / "output").write_text(stage)
    made.finish({"digest": f"{stage} 1", **summary}, ["output"])


@pytest.fixture
def config() -> Config:
    return Config.resolve(Config(), assignments=["train.epochs=3", "sequence.stride=4"])


@pytest.fixture
def run(tmp_path: Path, config: Config) -> Run:
    """A run of four stages, as each notes what it was made of."""
    made = Run.at(str(tmp_path / "run"))
    made.write_config(config, _RECORD)
    _finish(
        made,
        "segments",
        # Sequences of another length are no other segments.
        _sections(config, "preprocess", "mel", "augment", preprocess=set(FREE["preprocess"]))
        | {"sequence": {"length": 99}, "corpus": {"recordings": 7}},
        settings=_sections(config, "corpus", "labels", "split") | {"run": _RECORD},
    )
    trained = _sections(
        config, "standardize", "sequence", "model", "train", train=set(FREE["train"])
    )
    # As the stage notes it: without what is not set.
    trained["train"] = {k: v for k, v in trained["train"].items() if v is not None}
    _finish(made, "train", {"segments": "segments 1", **trained})
    sequence = {**trained["sequence"], "phase": "fixed"}
    inputs = {"segments": "segments 1", "model": "train 1"}
    _finish(made, "features", {**inputs, "sequence": sequence})
    _finish(made, "sweep", {"features": "features 1", **_sections(config, "sweep")})
    _finish(made, "report", {"sweep": "sweep 1"})
    return made


def test_stages_of_one_another_are_given(run: Run, config: Config) -> None:
    found = require_chain(run, "segments", "features")
    assert list(found) == ["segments", "features"]
    assert found["features"]["summary"]["digest"] == "features 1"
    assert require_chain(run, "sweep")["sweep"]["made_of"]["features"] == "features 1"
    assert require_own_config(run) == config


@pytest.mark.parametrize(
    ("changed", "needed", "says"),
    [
        ("segments", "train", "train' was made of other segments than .*segments' holds now.*"),
        ("segments", "features", "train' was made of other segments .*valence train .*"),
        ("train", "features", "features' was made of the outputs of another model than .*extract "),
        ("train", "sweep", "features' was made of the outputs of another model than .*extract "),
    ],
)
def test_what_was_made_of_other_outputs_is_refused_with_the_command(
    run: Run, changed: StageName, needed: StageName, says: str
) -> None:
    made_of = {**run.stage(changed).require()["made_of"], "of": "other files"}
    _finish(run, changed, made_of, digest=f"{changed} 2")
    with pytest.raises(StaleError, match=rf"{says}.*--overwrite'"):
        require_chain(run, needed)
    # Whoever makes the stage anew reads the one that changed, which is whole.
    assert require_chain(run, changed)[changed]["summary"]["digest"] == f"{changed} 2"


def test_a_link_between_two_stages_that_are_read_is_enough(run: Run) -> None:
    """Features of these segments, by a model that was trained on others."""
    inputs = {"segments": "segments 2", "model": "train 1"}
    _finish(run, "segments", {"of": "another division"}, digest="segments 2")
    _finish(run, "features", inputs)
    with pytest.raises(StaleError, match=r"Run 'valence train .*--overwrite' to make '.*train'"):
        require_chain(run, "features")


def test_a_stage_before_may_be_absent_but_not_unfinished(run: Run) -> None:
    for name in ("segments", "train"):
        shutil.rmtree(run.folder(name).path)
    assert list(require_chain(run, "features", "sweep")) == ["features", "sweep"]
    run.stage("train").begin({"made": "now"})
    with pytest.raises(MissingStageError, match=r"train' is not finished"):
        require_chain(run, "features")
    with pytest.raises(MissingStageError, match=r"segments' has not been made"):
        require_chain(run, "segments")


def test_records_of_older_versions_say_less_and_are_believed(run: Run) -> None:
    _finish(run, "segments", {"of": "an older version"}, digest="any")
    _finish(run, "train", {"of": "an older version"})
    _finish(run, "features", {"model": "train 1"})
    other = Config.resolve(run.config(), assignments=["train.epochs=9", "mel.n_fft=512"])
    run.write_config(other, {"corpus": "/moved"})
    assert list(require_chain(run, "segments", "train", "features")) == [
        "segments",
        "train",
        "features",
    ]
    assert require_own_config(run) == other


@pytest.mark.parametrize(
    ("setting", "stage"),
    [
        ("mel.n_fft=512", "segments"),
        ("preprocess.channel=0", "segments"),
        ("split.seed=5", "segments"),
        ("labels.range=[1, 7]", "segments"),
        ("corpus.subjects=emodb", "segments"),
        ("train.epochs=9", "train"),
        ("train.gradient_clip=1.0", "train"),
        ("standardize.scope=segment_minmax", "train"),
        ("sequence.phase=fixed", "train"),
        ("sequence.stride=5", "train"),
        ("sweep.seed=8", "sweep"),
        ("sweep.trial_seconds=60", "sweep"),
    ],
)
def test_the_configuration_of_another_run_is_refused(
    run: Run, config: Config, setting: str, stage: StageName
) -> None:
    other = Config.resolve(config, assignments=[setting])
    run.config_file.write_text(_written(other, _RECORD, run))
    name = setting.partition("=")[0]
    says = rf"config\.toml' is not the configuration that '.*{stage}' was made with: {name} is"
    with pytest.raises(DamagedError, match=rf"{says}.*Copy '.*config\.copy\.toml' over it"):
        require_own_config(run)
    # The remedy mends it.
    shutil.copy(run.config_copy.path, run.config_file.path)
    assert require_own_config(run) == config
    # Where the copy is foreign too, what stays is to make those outputs with it, and that goes on.
    run.write_config(other, _RECORD)
    with pytest.raises(DamagedError, match=rf"{says}.*Restore it .*valence .*--overwrite'"):
        require_own_config(run)
    assert require_own_config(run, before=stage) == other


@pytest.mark.parametrize("channel", ["mean", "0", "1"])
def test_a_channel_is_held_against_the_segments(run: Run, config: Config, channel: str) -> None:
    """A dump leaves the mean out, on either side."""
    made_with = Config.resolve(config, assignments=[f"preprocess.channel={channel}"])
    record = run.stage("segments").require()
    noted = _sections(made_with, "preprocess", preprocess=set(FREE["preprocess"]))
    assert ("channel" in noted["preprocess"]) == (channel != "mean")
    made_of = {**record["made_of"], **noted}
    _finish(run, "segments", made_of, settings=record["summary"]["settings"])
    run.write_config(made_with, _RECORD)
    assert require_own_config(run) == made_with
    for other in {"mean", "0", "1"} - {channel}:
        config = Config.resolve(config, assignments=[f"preprocess.channel={other}"])
        run.write_config(config, _RECORD)
        says = f"preprocess.channel is {channel} there and {other} here"
        with pytest.raises(DamagedError, match=says):
            require_own_config(run)


def test_features_of_another_stride_than_the_training_are_stale(run: Run, config: Config) -> None:
    """Older versions made them; the configuration is the training's, and no copy mends that."""
    made_of = dict(run.stage("features").require()["made_of"])
    made_of["sequence"] = {**made_of["sequence"], "stride": 1}
    _finish(run, "features", made_of)
    assert require_own_config(run) == config
    says = (
        r"features' was made with sequence\.stride = 1\. Expected sequence\.stride = 4, with which "
        r"'.*train' was made\. Run 'valence extract .*run --overwrite'"
    )
    for needed in ("features", "sweep"):
        with pytest.raises(StaleError, match=says):
            require_chain(run, needed)
    # Whoever makes the features anew reads what comes before.
    assert list(require_chain(run, "segments", "train")) == ["segments", "train"]
    # Features without their training are held against the configuration.
    shutil.rmtree(run.folder("train").path)
    with pytest.raises(DamagedError, match=r"features' was made with: sequence\.stride is 1 there"):
        require_own_config(run)


def test_a_copy_with_a_key_of_another_version_is_no_remedy(run: Run, config: Config) -> None:
    text = run.config_copy.read_text().rpartition("# ")[0]
    copied = text.replace("[train]\n", "[train]\nof_tomorrow = 1\n")
    assert copied != text
    run.config_copy.write_text(seal_text(copied))
    other = Config.resolve(config, assignments=["train.epochs=9"])
    run.config_file.write_text(_written(other, _RECORD, run))
    with pytest.raises(DamagedError, match=r"train\.epochs is 3 there and 9 here.*Restore it from"):
        require_own_config(run)


@pytest.mark.parametrize("record", [{**_RECORD, "synthetic": True}, {**_RECORD, "corpus": "/b"}])
def test_the_same_settings_for_another_corpus_are_another_run_s(
    run: Run, config: Config, record: dict[str, Any]
) -> None:
    run.config_file.write_text(_written(config, record, run))
    with pytest.raises(DamagedError, match=r"segments' was made with: run\.(corpus|synthetic) is"):
        require_own_config(run)


def test_what_is_free_or_not_made_may_differ(run: Run, config: Config) -> None:
    free = ["train.workers=2", "preprocess.tasks=3", "cluster.wait_seconds=5"]
    other = Config.resolve(config, assignments=free)
    run.write_config(other, _RECORD)
    assert require_own_config(run) == other
    run.stage("sweep").begin({"features": "features 2"}, overwrite=True)
    unmade = Config.resolve(other, assignments=["sweep.seed=8"])
    run.write_config(unmade, _RECORD)
    assert require_own_config(run) == unmade


def test_a_setting_that_a_later_version_brought_is_its_default(run: Run, config: Config) -> None:
    made_of = dict(run.stage("train").require()["made_of"])
    made_of["train"] = {k: v for k, v in made_of["train"].items() if k != "windows_per_group"}
    _finish(run, "train", made_of)
    assert require_own_config(run) == config


def test_other_settings_are_refused_with_the_difference(run: Run) -> None:
    stage, same = run.stage("train"), {"sequence": {"stride": 4}}
    refuse_other_settings(stage, same, same, asks="extraction")
    other = {"sequence": {"stride": 3}}
    with pytest.raises(StaleError, match=r"this extraction asks for: sequence\.stride is 4 there"):
        refuse_other_settings(stage, same, other, asks="extraction")


def _written(config: Config, record: dict[str, Any], run: Run) -> str:
    """`config.toml` as another run would write it, seal and all."""
    other = Run.at(f"{run.root}-other")
    other.write_config(config, record)
    return str(other.config_file.read_text())

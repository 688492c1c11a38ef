from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valence import provenance
from valence.config import _PRESETS, Config, Preset
from valence.errors import ConfigError
from valence.provenance import fingerprint, versions
from valence.storage.location import Location

# Of a training with the defaults, as the version before `model.input` computed it.
_FINGERPRINT = "c5900148acaa631466a358b089bd9a2aa3c0a19648f0f3c6468528092ceadfa5"


def _resolve(*assignments: str, file: Path | None = None, base: Config | None = None) -> Config:
    location = None if file is None else Location.parse(file)
    return Config.resolve(base or Config(), file=location, assignments=assignments)


def test_the_defaults_that_the_contract_fixes() -> None:
    config = Config().model_dump(mode="json")
    fixed = {
        "split": {"protocol": "auto", "validation_share": 0.2},
        "preprocess": {
            "sr": 16000,
            "segment_seconds": 0.5,
            "level": "peak",
            "level_dbfs": -3.0,
            "dtype": "float16",
            "max_rejected_share": 0.1,
        },
        "mel": {"n_fft": 1024, "hop_length": 256, "n_mels": 128, "n_frames": 34},
        "augment": {
            "copies": 1,
            "probability": 0.5,
            "noise": [0.01, 0.05],
            "semitones": [-2, 2],
            "speed": [0.85, 1.15],
            "gain": [0.9, 1.1],
        },
        "standardize": {"scope": "global"},
        "sequence": {"length": 40, "target": "mean"},
        "model": {
            "channels": [8, 16, 32],
            "lstm_hidden": 128,
            "lstm_layers": 2,
            "targets": ["valence"],
        },
        "train": {"batch_size": 64},
        "sweep": {"select_on": "validation", "engine": "sklearn"},
    }
    for section, keys in fixed.items():
        assert {key: config[section][key] for key in keys} == keys


def test_optional_sections_are_written_only_where_they_state_something(tmp_path: Path) -> None:
    assert not set(tomllib.loads(Config().to_toml())) & {"labels", "corpus"}
    stated = _resolve("labels.range=[1, 7]", "corpus.subjects=emodb")
    file = tmp_path / "config.toml"
    file.write_text(stated.to_toml())
    assert Config.read(Location.parse(file)) == stated
    assert stated.labels.range == (1.0, 7.0)
    assert _resolve("labels.range=[1, 7]").model_dump(exclude={"labels"}) == Config().model_dump()
    with pytest.raises(ConfigError, match=r"range = \[7\.0, 1\.0\] does not ascend"):
        _resolve("labels.range=[7, 1]")


def test_the_paper_preset_keeps_the_papers_values() -> None:
    paper = Config.preset("paper")
    augment = paper.augment
    assert (augment.copies, augment.probability, augment.noise) == (1, 0.5, (0.01, 0.05))
    assert (augment.semitones, augment.speed, augment.gain) == ((-2, 2), (0.85, 1.15), (0.9, 1.1))
    assert paper.standardize.scope == "global"
    sequence, model, train = paper.sequence, paper.model, paper.train
    assert (sequence.length, sequence.stride, sequence.phase) == (40, 1, "fixed")
    assert sequence.target == "mean"
    assert (model.channels, model.lstm_hidden, model.lstm_layers) == ((8, 16, 32), 128, 2)
    assert (model.dropout, model.targets) == (0, ("valence",))
    assert (train.batch_size, train.windows_per_group, train.seeds) == (64, 1, (0,))
    assert (train.warmup_epochs, train.gradient_clip) == (0, None)


def test_the_paper_preset_does_not_follow_the_defaults() -> None:
    pinned = {name: set(section) for name, section in _PRESETS["paper"].items()}
    # What the study says nothing of, or is no choice of what to train.
    free = {
        "augment": set(),
        "standardize": set(),
        "sequence": set(),
        "model": set(),
        "train": {"epochs", "learning_rate", "weight_decay", "patience", "shuffle_segments"}
        | {"workers", "gpus", "precision", "compile", "residency", "host_gib", "max_failures"},
    }
    for name, keys in free.items():
        known = set(type(getattr(Config(), name)).model_fields)
        assert known - keys == pinned[name]


@pytest.mark.parametrize("name", get_args(Preset))
def test_a_resolved_configuration_is_written_and_read_back(tmp_path: Path, name: Preset) -> None:
    config = _resolve("train.seeds=[3, 5]", "sweep.bootstrap=7", base=Config.preset(name))
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml(run={"corpus": "s3://a"}, versions=versions()))
    assert Config.read(Location.parse(file)) == config
    assert tomllib.loads(file.read_text())["run"] == {"corpus": "s3://a"}


def test_samples_and_milliseconds_of_a_segment() -> None:
    preprocess = _resolve("preprocess.sr=8000", "preprocess.segment_seconds=0.25").preprocess
    assert (preprocess.segment_samples, preprocess.segment_ms) == (2000, 250)


def test_assignments_lie_over_the_file_and_the_file_over_the_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nepochs = 3\npatience = 4\n[mel]\nn_mels = 64\n")
    config = _resolve("train.epochs=2", file=file, base=Config.preset("paper"))
    assert (config.train.epochs, config.train.patience, config.mel.n_mels) == (2, 4, 64)
    assert config.sequence.stride == 1


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("train.precision=bfloat16", "train", "precision", "bfloat16"),
        ('train.precision="bfloat16"', "train", "precision", "bfloat16"),
        ("split.allow_subject_overlap=true", "split", "allow_subject_overlap", True),
        ("model.channels=[4, 8]", "model", "channels", (4, 8)),
        (" train . learning_rate = 3e-4", "train", "learning_rate", 3e-4),
        ("augment.noise=[0, 0.1]", "augment", "noise", (0.0, 0.1)),
        ('model.targets=["valence", "arousal"]', "model", "targets", ("valence", "arousal")),
    ],
)
def test_assignments_are_read_as_toml_and_bare_words_as_strings(
    assignment: str, section: str, key: str, value: object
) -> None:
    assert getattr(getattr(_resolve(assignment), section), key) == value


@pytest.mark.parametrize(
    ("assignment", "found"),
    [
        ("train.epoch=3", r"key 'epoch' in \[train\].*Did you mean 'epochs'\?"),
        ("trian.epochs=3", r"section \[trian\].*Did you mean 'train'\?"),
        ("train.zzz=3", r"which does not exist\. Known here: epochs, "),
        ("train.epochs", "expected section.key=value"),
        ("epochs=3", "expected section.key=value"),
        ("train.=3", "expected section.key=value"),
        ("train.epochs=many", r"train\.epochs: .*found 'many'"),
        ("train.epochs=0", r"train\.epochs: .*greater than or equal to 1, found 0"),
        ("train.epochs=2.5", r"train\.epochs: .*found 2\.5"),
        ("train.learning_rate=inf", r"train\.learning_rate: .*finite"),
        ("train.learning_rate=nan", r"train\.learning_rate: "),
        ("split.validation_share=1", r"split\.validation_share: .*less than 1"),
        ("split.seed=-1", r"split\.seed: .*found -1"),
        ("split.protocol=papers", r"split\.protocol: .*'auto', 'paper' or 'partition'"),
        ("augment.noise=[0.1]", r"augment\.noise"),
        ("augment.noise=[0.2, 0.1]", r"augment: noise = \[0\.2, 0\.1\] has its larger end first"),
        ("augment.speed=[0, 1]", r"augment: .*speed and gain must be above 0"),
        ("model.channels=[]", r"model\.channels"),
        ("train.seeds=[3, 0, 3]", r"train: seeds = \[3, 0, 3\] names one twice"),
        ("train.warmup_epochs=30", r"train: warmup_epochs = 30 leaves none of epochs = 30"),
        ('model.targets=["joy"]', r"model\.targets\.0: .*'valence' or 'arousal', found 'joy'"),
        ('model.targets=["valence", "valence"]', "names one twice"),
        ("mel.n_frames=31", "covers 7680 samples, and a segment has 8000"),
        ("model.channels=[1, 1, 1, 1, 1, 1]", "halve the mel .128, 34. to nothing"),
    ],
)
def test_what_is_not_accepted_is_named(assignment: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found) as raised:
        _resolve(assignment)
    assert raised.value.exit_status == 2
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[train]\nepoch = 3\n", r"mine\.toml has the key 'epoch' in \[train\]"),
        ("train = 3\n", r"gives train = 3; expected a table \[train\]"),
        ("[train\n", r"is not valid TOML: .*line 1"),
        (b"\xff\xfe", "is not valid TOML"),
    ],
)
def test_a_file_that_is_not_accepted_is_named(
    tmp_path: Path, text: str | bytes, found: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError, match=found):
        _resolve(file=file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file '.*absent\.toml'"):
        _resolve(file=tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        _resolve(file=tmp_path)


def test_sections_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.epochs = 3  # type: ignore[misc]


@given(
    epochs=st.integers(1, 10**6),
    share=st.floats(0.001, 0.999),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
    noise=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_any_values_survive_the_way_through_toml(
    tmp_path_factory: pytest.TempPathFactory,
    epochs: int,
    share: float,
    seeds: list[int],
    noise: list[float],
) -> None:
    config = _resolve(
        f"train.epochs={epochs}",
        f"split.validation_share={share!r}",
        f"train.seeds={seeds}",
        f"augment.noise={noise}",
    )
    file = Location.parse(tmp_path_factory.mktemp("any")) / "config.toml"
    file.write_text(config.to_toml())
    again = Config.read(file)
    assert again == config
    assert again.split.validation_share == share


def test_versions_name_what_results_depend_on() -> None:
    found = versions()
    assert found["python"].startswith("3.")
    assert found["numpy"][0].isdigit()
    assert {"valence", "ray", "torch", "librosa"} <= found.keys()


def test_the_version_is_that_of_the_name_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    # PyPI has a project of the plain name: its version would be another program's.
    for name, version in ((project["name"], "9.8.7"), ("valence", "0.9.0")):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(provenance, "_versions", provenance._versions.__wrapped__)
    assert versions()["valence"] == "9.8.7"


def test_a_key_is_read_by_the_name_that_it_had_before(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text("[train]\nwindows_per_run = 8\n")
    read = Config.read(Location.parse(file))
    named = Config.resolve(Config(), assignments=["train.windows_per_run=8"])
    assert read == named == Config.resolve(Config(), assignments=["train.windows_per_group=8"])
    assert "windows_per_group = 8\n" in read.to_toml()
    assert "windows_per_run" not in read.to_toml()


def test_a_training_is_known_by_the_names_that_its_state_was_written_with() -> None:
    from pipelines.train.resume import made_of_training

    config = Config.resolve(Config(), assignments=["train.windows_per_group=8"])
    stated = made_of_training(config, "of segments")["train"]
    assert stated["windows_per_run"] == 8
    assert "windows_per_group" not in stated


def test_mel_leaves_no_trace_of_the_input() -> None:
    from pipelines.train.resume import made_of_training

    # Fingerprints, models and runs from before the key stay valid, to the byte.
    for config in (Config(), Config.preset("paper"), _resolve("model.input=mel")):
        assert config.model.feature_set is None
        assert "input" not in config.model_dump(mode="json")["model"]
        assert "input" not in config.to_toml()
        assert "features" not in made_of_training(config, "of segments")
    assert fingerprint(made_of_training(Config(), "of segments")) == _FINGERPRINT


def test_a_set_of_features_is_the_input(tmp_path: Path) -> None:
    from pipelines.train.resume import made_of_training

    config = _resolve("model.input=egemaps")
    assert config.model.feature_set == "egemaps"
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml())
    assert Config.read(Location.parse(file)) == config
    assert made_of_training(config, "of segments")["model"]["input"] == "egemaps"
    # There is no CNN whose blocks could halve the mel to nothing.
    small = ["mel.n_mels=4", "model.channels=[1, 1, 1]"]
    assert _resolve("model.input=egemaps", *small).mel.n_mels == 4
    with pytest.raises(ConfigError, match="halve the mel"):
        _resolve(*small)


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("model.input=Mel", "neither 'mel' nor the name of a set"),
        ("model.input=feature_segments/egemaps", "is a path"),
        ("model.input=..", "not the name of a folder"),
        ('model.input=" egemaps"', "not the name of a folder"),
        ('model.input=""', "at least 1 character"),
        ("model.input=3", "valid string"),
    ],
)
def test_what_names_no_set_is_refused(assignment: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        _resolve(assignment)


def test_a_scope_of_mel_is_refused_beside_a_set() -> None:
    with pytest.raises(ConfigError, match="'mel_band' speaks of mel, and"):
        _resolve("model.input=egemaps", "standardize.scope=mel_band")

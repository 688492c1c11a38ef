"""Read and check the configuration: one frozen model for each section, from TOML and `--set`."""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from valence.errors import ConfigError
from valence.storage.location import Location

Target = Literal["valence", "arousal"]
Preset = Literal["default", "paper"]
Precision = Literal["float32", "bfloat16"]
Range = tuple[float, float]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Channels = Annotated[int, Field(ge=1, le=1024)]

# The value of `model.input` that stands for the stored mel. Every other value names a set.
MEL = "mel"

# Sections that are written only if they differ from the default.
OPTIONAL_SECTIONS = ("corpus", "labels", "fuse", "mlflow")
# Tables that the config.toml of a run holds in addition to the configuration.
_RECORD_TABLES = ("run", "versions")
# The last line of a run's config.toml begins with this text.
_SEAL = "# SHA-256 of the lines above: "
# Sections of every config.toml that an older version wrote without a seal.
_FIRST_SECTIONS = (
    "split",
    "preprocess",
    "mel",
    "augment",
    "standardize",
    "sequence",
    "model",
    "train",
    "sweep",
    "cluster",
)


class Section(BaseModel):
    """A section of the configuration: it is frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusConfig(Section):
    """The rules for reading a corpus."""

    subjects: str | None = Field(
        None, min_length=1, description="rule that finds the subject in an Id; absent: no rule"
    )


class LabelsConfig(Section):
    """The scale of the label files."""

    range: Range | None = Field(
        None, description="lowest and highest value of the labels' scale; absent: -1 and 1"
    )

    @model_validator(mode="after")
    def _range_ascends(self) -> LabelsConfig:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range = {list(self.range)} does not ascend")
        return self


class FuseConfig(Section):
    """The steps from the traces of several raters to one curve, in their order."""

    step: float | None = Field(
        None, ge=0.02, le=10, description="seconds; absent: that of the raters' own samples"
    )
    scope: Literal["recording", "corpus"] = "recording"
    standardize: Literal["none", "z", "minmax"] = "z"
    align: Literal["none", "fixed", "correlation"] = "correlation"
    delay: float = Field(0.0, ge=0, le=60)
    delay_limit: float = Field(6.0, gt=0, le=60)
    delay_from: Literal["fastest", "mean"] = "fastest"
    smooth: Literal["none", "savgol"] = "savgol"
    smooth_window: int = Field(5, ge=5, le=9999)
    contrary: Literal["drop", "keep"] = "drop"
    method: Literal["mean", "median", "ewe", "ccc", "leave_one_out"] = "ewe"
    least_raters: int = Field(1, ge=1)
    figures: int = Field(20, ge=0)

    @model_validator(mode="after")
    def _window_has_a_middle(self) -> FuseConfig:
        if self.smooth_window % 2 == 0:
            raise ValueError(
                f"smooth_window = {self.smooth_window} has no sample in its middle; give an odd "
                "number"
            )
        return self

    @model_validator(mode="after")
    def _delay_is_used(self) -> FuseConfig:
        if self.delay and self.align == "none":
            raise ValueError(
                f"delay = {self.delay:g} has no effect under align = 'none'; choose 'fixed' or "
                "'correlation'"
            )
        return self


class SplitConfig(Section):
    """The division of recordings into training, validation and test."""

    protocol: Literal["auto", "paper", "partition"] = "auto"
    validation_share: float = Field(0.2, gt=0, lt=1)
    seed: Seed = 0
    allow_subject_overlap: bool = False


class PreprocessConfig(Section):
    """Decoding, cutting and levelling of recordings, and the distribution of the work."""

    # The upper bounds here and below are far above any use. They prevent a model file, which may
    # come from anybody, from asking for all memory.
    sr: int = Field(16_000, gt=0, le=768_000)
    segment_seconds: float = Field(0.5, gt=0, le=60)
    level: Literal["peak", "rms"] = "peak"
    level_dbfs: float = Field(-3.0, ge=-200, le=0)
    dtype: Literal["float16", "float32"] = "float16"
    channel: Literal["mean"] | Annotated[int, Field(strict=True, ge=0, le=1023)] = "mean"
    max_rejected_share: float = Field(0.1, ge=0, le=1)
    seed: Seed = 0
    cpus_per_task: float = Field(1.0, gt=0)
    tasks: int | None = Field(None, ge=1, description="most tasks at once; absent: as many as fit")

    @model_serializer(mode="wrap")
    def _leave_out_the_mean(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Without the default, fingerprints and models from before this key stay valid.
        values: dict[str, Any] = serialize(self)
        if values.get("channel") == "mean":
            del values["channel"]
        return values

    @property
    def segment_samples(self) -> int:
        """Return the number of samples in a segment."""
        return round(self.sr * self.segment_seconds)

    @property
    def segment_ms(self) -> int:
        """Return the length of a segment in milliseconds."""
        return round(1000 * self.segment_seconds)


class MelConfig(Section):
    """Log-mel spectrogram of a segment."""

    n_fft: int = Field(1024, gt=0, le=2**16)
    hop_length: int = Field(256, gt=0, le=2**16)
    n_mels: int = Field(128, gt=0, le=1024)
    n_frames: int = Field(34, gt=1, le=4096)


class AugmentConfig(Section):
    """Augmented copies of the training recordings."""

    copies: int = Field(1, ge=0)
    probability: float = Field(0.5, ge=0, le=1)
    noise: Range = (0.01, 0.05)
    semitones: Range = (-2.0, 2.0)
    speed: Range = (0.85, 1.15)
    gain: Range = (0.9, 1.1)

    @model_validator(mode="after")
    def _ranges_ascend(self) -> AugmentConfig:
        for name in ("noise", "semitones", "speed", "gain"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = [{low}, {high}] has its larger end first")
        if self.noise[0] < 0 or self.speed[0] <= 0 or self.gain[0] <= 0:
            raise ValueError("noise must not be negative; speed and gain must be above 0")
        return self


class StandardizeConfig(Section):
    """The values over which mel spectrograms are standardised."""

    scope: Literal["global", "mel_band", "segment_minmax"] = "global"


class SequenceConfig(Section):
    """Windows of consecutive segments."""

    length: int = Field(40, ge=1, le=10_000)
    stride: int = Field(10, ge=1)
    phase: Literal["random", "fixed"] = "random"
    target: Literal["mean", "last", "centre"] = "mean"


class ModelConfig(Section):
    """The CNN-BiLSTM-attention model, or its BiLSTM and attention over a set of features."""

    input: str = Field(
        MEL,
        min_length=1,
        max_length=200,
        description="what the model takes: mel, or the name of a folder in feature_segments",
    )
    channels: tuple[Channels, ...] = Field((8, 16, 32), min_length=1, max_length=8)
    lstm_hidden: int = Field(128, ge=1, le=4096)
    lstm_layers: int = Field(2, ge=1, le=16)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[Target, ...] = Field(("valence",), min_length=1)

    @field_validator("input")
    @classmethod
    def _input_is_a_folder_name(cls, name: str) -> str:
        if name != MEL and name.strip().lower() == MEL:
            raise ValueError(f"input = {name!r} is neither '{MEL}' nor the name of a set")
        if name != name.strip() or name.startswith(".") or not name.isprintable():
            raise ValueError(f"input = {name!r} is not the name of a folder in feature_segments")
        if any(mark in name for mark in "/\\"):
            raise ValueError(
                f"input = {name!r} is a path, and a set is named by its folder in feature_segments"
            )
        return name

    @model_validator(mode="after")
    def _targets_differ(self) -> ModelConfig:
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets = {list(self.targets)} names one twice")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_mel(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Without the default, fingerprints and models from before this key stay valid.
        values: dict[str, Any] = serialize(self)
        if values.get("input") == MEL:
            del values["input"]
        return values

    @property
    def feature_set(self) -> str | None:
        """Return the name of the set of features that the model takes; None if it takes mel."""
        return None if self.input == MEL else self.input


class TrainConfig(Section):
    """Training of the deep model."""

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    patience: int = Field(8, ge=1)
    warmup_epochs: int = Field(
        0, ge=0, description="epochs over which the learning rate climbs to its own"
    )
    gradient_clip: float | None = Field(None, gt=0)
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    workers: int = Field(1, ge=1)
    gpus: Literal["auto", "never", "always"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "never", "always"] = Field(
        "auto", description="compile the CNN first; auto: on a GPU that is the only one"
    )
    windows_per_group: int = Field(
        1, ge=1, description="consecutive windows that a batch takes together, sharing the CNN"
    )
    shuffle_segments: int = Field(
        65_536,
        ge=1,
        description="most segments that are shuffled among each other and held to stream",
    )
    residency: Literal["auto", "device", "host", "stream"] = "auto"
    host_gib: float | None = Field(
        None,
        gt=0,
        description="most memory a worker may hold segments in; absent: half of what is free",
    )
    max_failures: int = Field(3, ge=0)

    @model_validator(mode="after")
    def _seeds_differ(self) -> TrainConfig:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"seeds = {list(self.seeds)} names one twice, which would train the same again"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> TrainConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} leaves none of epochs = {self.epochs} to "
                "train at the full learning_rate"
            )
        return self

    @model_validator(mode="after")
    def _runs_fill_batches(self) -> TrainConfig:
        if self.batch_size % self.windows_per_group:
            raise ValueError(
                f"batch_size = {self.batch_size} is not a multiple of "
                f"windows_per_group = {self.windows_per_group}"
            )
        return self


Value = bool | int | float | str
# Two underscores in a row are excluded, because scikit-learn gives them a meaning.
STEP_NAME = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"


class StepConfig(Section):
    """A scaler, reducer or regressor of the sweep, from which `valence.sweep.grid` builds objects.

    `estimator` is the name of a class, and `parameters` are its keywords. Without an estimator, a
    scaler or reducer does nothing, and a regressor is the mean of its `members`, which are names of
    other regressors.
    """

    name: str = Field(pattern=STEP_NAME)
    estimator: str | None = None
    parameters: dict[str, Value | tuple[Value, ...]] = {}
    members: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _leave_out_what_is_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value}


_SCALERS = (
    StepConfig(name="none"),
    StepConfig(name="standard", estimator="StandardScaler"),
    StepConfig(name="minmax", estimator="MinMaxScaler"),
)
_REDUCERS = (
    StepConfig(name="none"),
    StepConfig(
        name="selectkbest",
        estimator="SelectKBest",
        parameters={"score_func": "mutual_info_regression", "k": 16},
    ),
    StepConfig(name="pca10", estimator="PCA", parameters={"n_components": 10}),
    StepConfig(name="pca20", estimator="PCA", parameters={"n_components": 20}),
)
_REGRESSORS = (
    StepConfig(name="linear", estimator="LinearRegression"),
    StepConfig(name="ridge", estimator="Ridge"),
    StepConfig(name="svr", estimator="SVR", parameters={"kernel": "poly", "degree": 5}),
    StepConfig(
        name="xgboost", estimator="XGBRegressor", parameters={"n_estimators": 200, "max_depth": 1}
    ),
    StepConfig(name="ensemble", members=("linear", "svr")),
)


class SweepConfig(Section):
    """The combinations of scaler, reducer and regressor on the 512 features.

    Every scaler is combined with every reducer and every regressor. In TOML, a step is a table or
    the name of a default: `scalers = ["none", {name = "robust", estimator = "RobustScaler"}]`.
    """

    select_on: Literal["validation", "test"] = "validation"
    engine: Literal["sklearn", "sklearnex"] = "sklearn"
    svr_max_rows: int | None = Field(None, ge=2)
    trial_seconds: float | None = Field(None, gt=0)
    bootstrap: int = Field(1000, ge=0)
    seed: Seed = 0
    scalers: tuple[StepConfig, ...] = _SCALERS
    reducers: tuple[StepConfig, ...] = _REDUCERS
    regressors: tuple[StepConfig, ...] = _REGRESSORS

    @field_validator("scalers", "reducers", "regressors", mode="before")
    @classmethod
    def _names_stand_for_defaults(cls, steps: Any, info: ValidationInfo) -> Any:
        known = {step.name: step for step in cls.model_fields[str(info.field_name)].default}
        if not isinstance(steps, (list, tuple)):
            return steps
        for step in steps:
            if isinstance(step, str) and step not in known:
                raise ValueError(
                    f"'{step}' is none of the defaults ({', '.join(known)}); give a table with "
                    "name, estimator and parameters for one of your own"
                )
        return [known[step] if isinstance(step, str) else step for step in steps]

    @field_validator("scalers", "reducers", "regressors")
    @classmethod
    def _names_differ(cls, steps: tuple[StepConfig, ...]) -> tuple[StepConfig, ...]:
        names = [step.name for step in steps]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"{names} names none, or one twice")
        return steps


class ClusterConfig(Section):
    """The label that assigns nodes of a cluster to work, and the time to wait for nodes."""

    label: str = Field("valence.role", min_length=1, max_length=63)
    wait_seconds: float = Field(600.0, ge=0)


class MlflowConfig(Section):
    """The server that a training is mirrored to."""

    uri: str | None = Field(
        None, min_length=1, description="of the tracking server; absent: nothing is sent"
    )
    experiment: str = Field("valence", min_length=1, max_length=200)

    @field_validator("uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        # The run's folder keeps the settings, and others read them.
        if uri is not None and "@" in urlsplit(uri).netloc:
            raise ValueError(
                "the address holds a name or a password; leave it out, and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
            )
        return uri


class Sections(Section):
    """The sections of a configuration; optional sections with only defaults are not written.

    A run or model that needs no optional section is therefore written as before these existed.
    """

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_stated(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return {
            name: value
            for name, value in serialize(self).items()
            if name not in OPTIONAL_SECTIONS or getattr(self, name) != type(getattr(self, name))()
        }


class Config(Sections):
    """The whole configuration; `Config()` is the preset `default`.

    >>> Config().mel.n_frames
    34
    """

    corpus: CorpusConfig = CorpusConfig()
    labels: LabelsConfig = LabelsConfig()
    fuse: FuseConfig = FuseConfig()
    split: SplitConfig = SplitConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    mel: MelConfig = MelConfig()
    augment: AugmentConfig = AugmentConfig()
    standardize: StandardizeConfig = StandardizeConfig()
    sequence: SequenceConfig = SequenceConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    sweep: SweepConfig = SweepConfig()
    cluster: ClusterConfig = ClusterConfig()
    mlflow: MlflowConfig = MlflowConfig()

    @model_validator(mode="after")
    def _frames_hold_the_segment(self) -> Config:
        held = (self.mel.n_frames - 1) * self.mel.hop_length
        if held < self.preprocess.segment_samples:
            raise ValueError(
                f"mel.n_frames = {self.mel.n_frames} at mel.hop_length = {self.mel.hop_length} "
                f"covers {held} samples, and a segment has {self.preprocess.segment_samples}"
            )
        halvings = 2 ** len(self.model.channels)
        if self.model.feature_set is None and min(self.mel.n_mels, self.mel.n_frames) < halvings:
            raise ValueError(
                f"{len(self.model.channels)} blocks of model.channels halve the mel "
                f"[{self.mel.n_mels}, {self.mel.n_frames}] to nothing"
            )
        return self

    @model_validator(mode="after")
    def _scope_speaks_of_mel(self) -> Config:
        name, scope = self.model.feature_set, self.standardize.scope
        if name is not None and scope != "global":
            raise ValueError(
                f"standardize.scope = '{scope}' speaks of mel, and model.input = '{name}' is a set "
                "of features, whose columns are each standardised alone; leave the scope 'global'"
            )
        return self

    @classmethod
    def preset(cls, name: Preset) -> Config:
        """Return the configuration called `name`.

        `paper` has the choices that the study states: augmentation, standardisation, sequences,
        model and batches.
        """
        return cls.model_validate(_PRESETS[name])

    @classmethod
    def resolve(
        cls,
        base: Config,
        *,
        file: Location | None = None,
        assignments: Sequence[str] = (),
    ) -> Config:
        """Lay a TOML file and then `section.key=value` assignments over `base`.

        Raises
        ------
        ConfigError
            If a file cannot be read, or a key or value is not accepted.

        >>> Config.resolve(Config(), assignments=["train.epochs=3"]).train.epochs
        3
        """
        values = base.model_dump(mode="json", exclude_none=True)
        if file is not None:
            _lay_over(values, _read_toml(file), where=str(file))
        for assignment in assignments:
            _lay_over(values, _parse_assignment(assignment), where=f"--set {assignment}")
        return _validate(values)

    @classmethod
    def read(cls, file: Location) -> Config:
        """Read a TOML file over the preset `default`."""
        return cls.resolve(cls(), file=file)

    def to_toml(self, **record: Mapping[str, Any]) -> str:
        """Return TOML text that `read` can read, followed by tables that record a run."""
        tables = self.model_dump(mode="json", exclude_none=True)
        return tomli_w.dumps(tables | {name: dict(table) for name, table in record.items()})


_PRESETS: dict[Preset, dict[str, Any]] = {
    "default": {},
    # Every value that the study states is listed, so that a new default does not change it.
    "paper": {
        "augment": {
            "copies": 1,
            "probability": 0.5,
            "noise": [0.01, 0.05],
            "semitones": [-2, 2],
            "speed": [0.85, 1.15],
            "gain": [0.9, 1.1],
        },
        "standardize": {"scope": "global"},
        "sequence": {"length": 40, "stride": 1, "phase": "fixed", "target": "mean"},
        "model": {
            "input": MEL,
            "channels": [8, 16, 32],
            "lstm_hidden": 128,
            "lstm_layers": 2,
            "dropout": 0.0,
            "targets": ["valence"],
        },
        "train": {
            "batch_size": 64,
            "windows_per_group": 1,
            "warmup_epochs": 0,
            "gradient_clip": None,
            "seeds": [0],
        },
    },
}


def seal_text(text: str) -> str:
    """Add a last line with the SHA-256 of the lines before it."""
    return f"{text}{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n"


def sealed_tables(content: bytes) -> dict[str, Any]:
    """Read the tables of a run's `config.toml`, and check its seal.

    Older versions wrote no seal. Such a file must have all sections and end with the versions.

    Raises
    ------
    ValueError
        If the file was changed or lacks its end. The message completes "it is not what was
        written: ...".
    """
    if not content.strip(b" \t\r\n\0"):
        raise ValueError("it is empty")
    text = content.decode()
    lines, found, digest = text.rpartition(_SEAL)
    if found and f"{hashlib.sha256(lines.encode()).hexdigest()}\n" != digest:
        raise ValueError("the SHA-256 in its last line is that of another content")
    tables = tomllib.loads(text)
    if not found:
        absent = [name for name in _FIRST_SECTIONS if name not in tables]
        if absent:
            raise ValueError(f"it has no section [{absent[0]}]")
        if list(tables)[-2:] != ["run", "versions"] or "pandas" not in tables["versions"]:
            raise ValueError("its end is missing")
    return tables


def _read_toml(file: Location) -> dict[str, Any]:
    try:
        tables = tomllib.loads(file.read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no configuration file '{file}'. Expected a TOML file; leave --config out "
            "to use the defaults."
        ) from error
    except OSError as error:
        raise ConfigError(f"'{file}' cannot be read: {error}. Expected a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{file}' is not valid TOML: {error}. Correct that line.") from error
    return {name: table for name, table in tables.items() if name not in _RECORD_TABLES}


def _parse_assignment(assignment: str) -> dict[str, Any]:
    key, equals, text = assignment.partition("=")
    section, dot, name = (part.strip() for part in key.partition("."))
    if not (equals and dot and section and name):
        raise ConfigError(
            f"'--set {assignment}' was found; expected section.key=value, such as "
            "--set train.epochs=30."
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # A word without quotes is a string: --set train.precision=bfloat16.
        value = text.strip()
    return {section: {name: value}}


# Keys by the names that they had before, a table a section. Old files state those names, and so do
# the records of runs, so that a run that an older version made is resumed.
_FORMER_NAMES = {"train": {"windows_per_run": "windows_per_group"}}


def with_current_names(section: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keys of a section the names that they have now.

    >>> with_current_names("train", {"windows_per_run": 8, "epochs": 3})
    {'windows_per_group': 8, 'epochs': 3}
    """
    names = _FORMER_NAMES.get(section, {})
    return {names.get(key, key): value for key, value in table.items()}


def with_former_names(section: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keys of a section the names that records state.

    >>> with_former_names("train", {"windows_per_group": 8, "epochs": 3})
    {'windows_per_run': 8, 'epochs': 3}
    """
    names = {now: former for former, now in _FORMER_NAMES.get(section, {}).items()}
    return {names.get(key, key): value for key, value in table.items()}


def _lay_over(values: dict[str, Any], tables: dict[str, Any], *, where: str) -> None:
    for section, table in tables.items():
        known = Config.model_fields.get(section)
        if known is None:
            raise ConfigError(
                f"{where} has the section [{section}], which does not exist."
                f"{_nearest(section, Config.model_fields)}"
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{where} gives {section} = {table!r}; expected a table [{section}].")
        keys = known.annotation.model_fields  # type: ignore[union-attr]
        table = with_current_names(section, table)
        for key in table:
            if key not in keys:
                raise ConfigError(
                    f"{where} has the key '{key}' in [{section}], which does not exist."
                    f"{_nearest(key, keys)}"
                )
        values.setdefault(section, {}).update(table)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{hint} Known here: {', '.join(known)}."


def _validate(values: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        complaints = []
        for problem in error.errors():
            path = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            given = f", found {problem['input']!r}" if problem["type"] != "value_error" else ""
            complaints.append(f"{path}: {message}{given}" if path else message)
        raise ConfigError(
            f"The configuration cannot be used. {'; '.join(complaints)}. Correct the value in the "
            "file or in --set."
        ) from error

"""Declare how a corpus of another form lies on disk: which files, which columns, which units.

A declaration is a TOML file of a few lines. Those of common forms are shipped in `forms/`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from valence.config import Section, Target
from valence.corpus.muse import Partition
from valence.errors import ConfigError
from valence.importing.sources.patterns import require_template
from valence.storage.location import Location

Reader = Literal["table", "lines", "arff", "nova", "audformat"]
Stamps = Literal["start", "end", "middle"]
Unit = Literal["s", "ms", "us", "ns"]
Range = tuple[float, float]
# Names of cells in the head of a file: its lowest and highest value, or the magnitude m of -m to m.
HeadScale = tuple[str, str] | str
Text = Annotated[str, Field(min_length=1)]

# How many of a unit are a second.
PER_SECOND: Mapping[Unit, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


def _require_expression(text: str | None) -> str | None:
    try:
        re.compile(text or "")
    except re.error as cause:
        raise ValueError(f"'{text}' is no regular expression: {cause}") from cause
    return text


class TableForm(Section):
    """The form of a table: how its text is divided into rows, columns and cells."""

    separator: Literal["comma", "semicolon", "tab"] | None = Field(
        None, description="character between cells; absent: found in each file"
    )
    head_rows: int = Field(0, ge=0, description="rows before the row with the columns' names")
    marker: Text | None = Field(None, description="text in all cells of the row after the names")
    columns: tuple[Text, ...] = Field((), description="names, if no row of the file has them")
    quote: Literal["'"] | None = Field(None, description="mark around texts beside the usual one")
    missing: tuple[str, ...] = Field(
        (), description="marks of a missing value beside NaN and so on"
    )

    @property
    def delimiter(self) -> str | None:
        """Return the character between cells; None if it is to be found."""
        return None if self.separator is None else _SEPARATORS[self.separator]


class LabelsForm(TableForm):
    """The form of a group of files with labels."""

    files: tuple[Text, ...] = Field(min_length=1, description="patterns of their paths")
    reader: Reader = "table"
    begins: Text | None = Field(None, description="expression at the begin of a line that counts")
    line: Text | None = Field(None, description="expression of such a line, with a group a column")
    id: Text = Field("{id}", description="Id, from parts of the path and columns")
    targets: Mapping[str, Target] = Field(
        {"valence": "valence", "arousal": "arousal"}, description="words that {target} may be"
    )
    value: Text | None = Field(None, description="column with the values of {target}")
    valence: Text | None = Field(None, description="column with valence")
    arousal: Text | None = Field(None, description="column with arousal")
    raters: Text | None = Field(None, description="expression of the names of raters' columns")
    rater: Text | None = Field(None, description="column with the name of the rater")
    gold: tuple[Text, ...] = Field((), description="names of raters that mean a gold standard")
    tables: tuple[Text, ...] = Field((), description="tables of audformat; empty: all")
    decimal: Literal["point", "comma"] | None = Field(
        None, description="decimal sign; absent: found in each column"
    )
    time: Text | None = Field(None, description="column with the time")
    start: Text | None = Field(None, description="column with the begin of a row's span")
    end: Text | None = Field(None, description="column with the end of a row's span")
    unit: Unit = "s"
    stamps: Stamps = Field("start", description="point of its span that a time names")
    step: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="seconds between rows, one of these; empty: any regular or irregular step"
    )
    scale: Range | HeadScale | Mapping[Target, Range] = Field(
        (-1.0, 1.0), description="lowest and highest value, or the cells of the head that name them"
    )
    delay: float = Field(0.0, description="seconds by which the ratings lag behind the sound")

    @field_validator("scale")
    @classmethod
    def _scale_ascends(cls, scale: Any) -> Any:
        ranges = list(scale.values()) if isinstance(scale, Mapping) else [scale]
        for each in ranges:
            if isinstance(each, tuple) and not isinstance(each[0], str) and each[0] >= each[1]:
                raise ValueError(f"scale = {list(each)} does not ascend")
        return scale

    _id_can_be_filled = field_validator("id")(require_template)

    _expressions = field_validator("begins", "line", "raters")(_require_expression)

    @model_validator(mode="after")
    def _columns_make_sense(self) -> Self:
        in_path = any("{target" in pattern for pattern in self.files)
        named = [name for name in ("valence", "arousal") if getattr(self, name) is not None]
        given = [*named, *(name for name in ("value", "raters") if getattr(self, name) is not None)]
        if self.reader in ("nova", "audformat"):
            if given or self.time:
                raise ValueError(
                    f"reader = '{self.reader}' finds the columns by itself; remove "
                    f"{', '.join(given or ['time'])}"
                )
            return self
        if not given:
            raise ValueError("no column with values is named (value, valence, arousal or raters)")
        if ("value" in given or "raters" in given) != in_path:
            raise ValueError("value or raters needs {target} in files, and {target} needs them")
        if named and len(given) > len(named):
            raise ValueError("columns are named for {target} (value, raters) and without it")
        if self.time and (self.start or self.end):
            raise ValueError("time is named beside start or end")
        if bool(self.start) != bool(self.end):
            raise ValueError("start and end are named together or not at all")
        if (self.reader == "lines") != bool(self.line and self.begins):
            raise ValueError("reader = 'lines' needs begins and line, and they need it")
        return self

    @property
    def is_per_recording(self) -> bool:
        """Tell whether a row gives one value for a whole recording."""
        return not (self.time or self.start or self.step or self.reader in ("nova", "audformat"))


class Lookup(TableForm):
    """A property of recordings: a part of their Ids, or a column of a table."""

    template: Text | None = Field(None, description="text with parts of the Id or of the path")
    file: Text | None = Field(None, description="path of a table")
    key: Text = Field("{id}", description="text that the table's rows begin with, from the Id")
    id: Text | None = Field(None, description="column with this text")
    value: Text | tuple[Text, ...] | None = Field(
        None, description="column with the property, or several names that it may have"
    )
    unknown: tuple[str, ...] = Field((), description="values that mean that it is not known")

    @field_validator("template", "key")
    @classmethod
    def _can_be_filled(cls, text: str | None) -> str | None:
        return None if text is None else require_template(text)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        table = (self.file, self.id, self.value)
        if bool(self.template) == any(table) or any(table) != all(table):
            raise ValueError("either template is named, or file, id and value")
        return self


class PartitionForm(Lookup):
    """The partition of recordings."""

    words: Mapping[str, Partition] = Field({}, description="partitions beside train, dev and so on")


class Cut(TableForm):
    """A table that cuts audio files into recordings, a row for each stretch."""

    file: tuple[Text, ...] = Field(min_length=1, description="paths of the tables")
    id: Text = Field("{id}", description="Id of the recording, from the columns")
    audio: Text | None = Field(None, description="column with the name of the audio file")
    start: Text | None = None
    end: Text | None = None
    channel: Text | None = Field(None, description="column with the channel, counted from 0")
    unit: Unit = "s"
    times: Literal["recording", "file"] = Field(
        "recording", description="begin of the labels' times: the recording's, or the audio file's"
    )
    origin: Lookup | None = Field(
        None, description="time at which the audio file begins, in the table's time"
    )

    _id_can_be_filled = field_validator("id")(require_template)


class Declaration(Section):
    """The form of a corpus."""

    name: Text
    title: Text
    sources: tuple[Text, ...] = Field((), description="where the form is described")
    labels: tuple[LabelsForm, ...] = Field(min_length=1)
    audio: tuple[Text, ...] = Field(
        ("**/{id}",), description="patterns of the audio files' paths without their endings"
    )
    id_parts: Text | None = Field(
        None, description="expression that divides an Id into named groups"
    )
    subjects: Lookup | None = None
    partition: PartitionForm | None = None
    cut: Cut | None = None
    join: Literal["subject"] | None = Field(
        None, description="join the files of a subject to one recording"
    )

    _expression = field_validator("id_parts")(_require_expression)

    @model_validator(mode="after")
    def _can_join(self) -> Self:
        if self.join and self.subjects is None:
            raise ValueError("join = 'subject' needs subjects")
        if self.join and self.cut is not None:
            raise ValueError("join and cut are both named")
        return self

    def parts_of(self, recording: str) -> dict[str, str]:
        """Divide an Id into its named parts, and the Id itself as `id`."""
        found = re.fullmatch(self.id_parts, recording) if self.id_parts else None
        parts = found.groupdict() if found else {}
        return {name: text for name, text in parts.items() if text} | {"id": recording}


def load_declaration(form: str, assignments: Sequence[str] = ()) -> Declaration:
    """Read a shipped declaration by its name, or one from a TOML file.

    Parameters
    ----------
    form
        The name of a shipped form, or the path or URI of a file that ends in `.toml`.
    assignments
        Values that override the declaration's, such as `labels.scale=[1,7]`. `labels.` means all
        groups of label files.

    Raises
    ------
    ConfigError
        If there is no such form or file, or a key or value is not accepted.
    """
    if form.endswith(".toml"):
        file = Location.parse(form)
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as cause:
            raise ConfigError(
                f"The declaration '{file}' cannot be read: {cause}. Expected a TOML file in UTF-8; "
                "give its path."
            ) from cause
        return _parse(text, str(file), assignments)
    shipped = _shipped_texts()
    if form not in shipped:
        raise ConfigError(
            f"There is no form '{form}'. Expected one of {', '.join(sorted(shipped))}, or the path "
            "of a declaration that ends in .toml (--form FILE.toml)."
        )
    return _parse(shipped[form], f"the form {form}", assignments)


def shipped_declarations() -> tuple[Declaration, ...]:
    """Read all shipped declarations, by name."""
    return tuple(load_declaration(name) for name in sorted(_shipped_texts()))


@cache
def _shipped_texts() -> Mapping[str, str]:
    folder = files("valence.importing") / "forms"
    return {
        each.name.removesuffix(".toml"): each.read_text(encoding="utf-8")
        for each in folder.iterdir()
        if each.name.endswith(".toml")
    }


def _parse(text: str, where: str, assignments: Sequence[str]) -> Declaration:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise ConfigError(
            f"'{where}' is no TOML that can be read: {cause}. Expected key = value; correct it."
        ) from cause
    for assignment in assignments:
        _assign(values, assignment)
    try:
        return Declaration.model_validate(values)
    except ValidationError as cause:
        found = cause.errors()
        # A group with a fault is left out, and then pydantic counts no group as well.
        inner = [fault for fault in found if len(fault["loc"]) > 1]
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'declaration'}: {fault['msg']}"
            for fault in found
            if not (inner and fault["loc"] == ("labels",))
        )
        raise ConfigError(
            f"'{where}' is not a declaration that can be used: {faults}. Expected the keys that "
            "docs/importing.md explains; correct it."
        ) from cause


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Override one value of a declaration."""
    path, equals, text = assignment.partition("=")
    *sections, key = path.strip().split(".")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # A word without quotes is meant as text.
        value = text
    if not equals or not key or len(sections) > 1:
        raise ConfigError(
            f"--declare {assignment} was found. Expected key=value or section.key=value, such as "
            "labels.scale=[1,7]; write it so."
        )
    found = values.setdefault(sections[0], {}) if sections else values
    for section in found if isinstance(found, list) else [found]:
        section[key] = value

"""Read continuous annotations of NOVA: an XML header `.annotation` and its data `.annotation~`.

The form is described in the documentation of NOVA (hcmlab/nova, docs/index.md, File Format). The
header states the rate in Hz and the scale. A line of the data is `score;confidence`; binary data
are pairs of little-endian float32. Sample i describes [i / sr, (i + 1) / sr) seconds.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.errors import AnnotationError
from valence.importing.declaration import LabelsForm
from valence.importing.readers.identity import recording_id
from valence.importing.readers.table import target_of
from valence.importing.readers.trace import Trace
from valence.importing.sources.patterns import fill
from valence.storage.location import Location

_BINARY = np.dtype([("score", "<f4"), ("confidence", "<f4")])
_SLACK = 1e-4


def read_nova_traces(
    file: Location, fields: Mapping[str, str], form: LabelsForm
) -> Iterator[Trace]:
    """Read the trace of an annotation; scores with confidence 0 or NaN are missing values.

    Raises
    ------
    AnnotationError
        If the header or the data cannot be read, the scheme is not continuous, the data have
        another length than the header states, or a score leaves the scale.
    """
    root = _header(file)
    scheme = root.find("scheme")
    kind = "" if scheme is None else scheme.get("type", "").upper()
    if scheme is None or kind != "CONTINUOUS":
        raise AnnotationError(
            f"'{file}' has a scheme of the type '{kind.lower() or 'none'}'. Expected a continuous "
            "one; remove the file, or leave it out by the pattern of a declaration."
        )
    sr, low, high = (_number(file, scheme, name) for name in ("sr", "min", "max"))
    if sr <= 0 or low >= high:
        raise AnnotationError(
            f"'{file}' states sr = {sr:g}, min = {low:g} and max = {high:g}. Expected a rate above "
            "0 and a scale that ascends; correct the header."
        )
    named = target_of(fields, form)
    stated = target_of({"target": scheme.get("name", "")}, form)
    if named and stated and named != stated:
        raise AnnotationError(
            f"'{file}' is named for {named}, and its scheme is '{scheme.get('name')}'. Expected "
            "the same; rename the file, or correct its header."
        )
    info = root.find("info")
    info_type = "ASCII" if info is None else info.get("ftype", "ASCII").upper()
    score, confidence = _data(file.parent / f"{file.name}~", binary=info_type == "BINARY")
    _require_length(file, None if info is None else info.get("size"), len(score))
    _require_scale(file, score, low, high, binary=info_type == "BINARY")
    yield from _trace(file, fields, form, named or stated, score, confidence, sr, (low, high))


def _trace(
    file: Location,
    fields: Mapping[str, str],
    form: LabelsForm,
    target: Target | None,
    score: NDArray[np.float64],
    confidence: NDArray[np.float64],
    sr: float,
    scale: tuple[float, float],
) -> Iterator[Trace]:
    if target is None:
        return
    point = np.arange(len(score)) / sr - form.delay
    rater = fields.get("rater")
    unsure = int(np.count_nonzero(confidence == 0))
    remarks = (
        (f"'{file.name}' has {unsure} scores with confidence 0, which count as missing",)
        if unsure
        else ()
    )
    yield Trace(
        id=recording_id(fill(form.id, fields), file),
        target=target,
        rater=None if rater is None or rater in form.gold else rater,
        start=point,
        end=point + 1 / sr,
        value=np.where(confidence == 0, np.nan, np.clip(score, *scale)),
        scale=scale,
        file=file,
        remarks=remarks,
    )


def is_nova(file: Location) -> bool:
    """Tell whether a file is the header of a continuous annotation."""
    try:
        scheme = _header(file).find("scheme")
    except AnnotationError:
        return False
    return scheme is not None and scheme.get("type", "").upper() == "CONTINUOUS"


def _header(file: Location) -> ElementTree.Element:
    try:
        content = file.read_bytes()
        # A document type may define entities that grow without bound; NOVA writes none.
        if re.search(rb"<!(DOCTYPE|ENTITY)", content, re.IGNORECASE):
            raise ValueError("it has a document type")
        root = ElementTree.fromstring(content)
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as cause:
        raise AnnotationError(
            f"'{file}' cannot be read as NOVA's XML: {cause}. Expected <annotation> with <scheme>; "
            "restore the file, or remove it."
        ) from cause
    if root.tag != "annotation":
        raise AnnotationError(
            f"'{file}' holds <{root.tag}>. Expected NOVA's <annotation>; restore the file, or "
            "remove it."
        )
    return root


def _number(file: Location, scheme: ElementTree.Element, name: str) -> float:
    text = scheme.get(name, "")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(
            f"'{file}': {name} of the scheme is '{text}'. Expected a number; correct the header."
        )
    return number


def _data(file: Location, *, binary: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read scores and confidences."""
    try:
        content = file.read_bytes()
    except OSError as cause:
        raise AnnotationError(
            f"'{file}' cannot be read: {cause}. Expected the data of the annotation beside its "
            "header; restore it, or remove the header."
        ) from cause
    if binary:
        if len(content) % _BINARY.itemsize:
            raise AnnotationError(
                f"'{file}' has {len(content)} bytes. Expected pairs of float32, 8 bytes each; "
                "restore the file."
            )
        pairs = np.frombuffer(content, _BINARY)
        return pairs["score"].astype(np.float64), pairs["confidence"].astype(np.float64)
    rows = []
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip():
            continue
        cells = line.strip().rstrip(";").split(";")
        try:
            # Older versions write the score alone.
            row = (float(cells[0]), float(cells[1]) if len(cells) > 1 else 1.0)
        except ValueError:
            row = None
        if row is None or len(cells) > 2:
            raise AnnotationError(
                f"'{file}', line {number}: {reprlib.repr(line.strip())} was found. Expected "
                "score;confidence "
                "with decimal points; correct that line."
            )
        rows.append(row)
    pairs_read = np.array(rows, np.float64).reshape(-1, 2)
    return pairs_read[:, 0], pairs_read[:, 1]


def _require_length(file: Location, stated: str | None, found: int) -> None:
    text = (stated or "").strip().lstrip("0")
    # Some versions write no number, or 0.
    if found == 0 or (text.isdecimal() and text.isascii() and text != str(found)):
        raise AnnotationError(
            f"'{file}~' holds {found} scores, and its header states {stated or 'no number'}. "
            "Expected as many as stated; restore the file that is incomplete."
        )


def _require_scale(
    file: Location, score: NDArray[np.float64], low: float, high: float, *, binary: bool
) -> None:
    slack = _SLACK * (high - low)
    outside = np.flatnonzero((score < low - slack) | (score > high + slack))
    if outside.size:
        place = "score" if binary else "line"
        raise AnnotationError(
            f"'{file}~', {place} {outside[0] + 1}: the score is {score[outside[0]]:g}. Expected a "
            f"number from {low:g} to {high:g}, as the header states; correct one of them."
        )

"""Write the pages of a run's best and worst recordings, which play their sound under the curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from valence.audio.decoding import checksum, on_disk
from valence.corpus.muse import read_corpus
from valence.errors import CorpusError, UsageError
from valence.figures import Track
from valence.formatting import duration
from valence.prediction.outputs.predicted import Predicted, PredictionOutcome
from valence.prediction.page.render import render_page
from valence.prediction.predictor import Predictor
from valence.report.analysis.results import Evidence
from valence.report.analysis.scores import Findings
from valence.segments.store import SegmentStore
from valence.storage.location import Location

FOLDER = "recordings"
"""Folder of the pages beside the report."""

# Recordings of each kind, so that a report stays small and soon finished.
_MOST_EACH = 3
# Bytes of sound in a page: a quarter of an hour. A longer recording is linked.
_MOST_BYTES = 4_500_000
# A longer recording gets no page: its prediction would take longer than the rest of the report.
_MOST_SECONDS = 3600.0

_FROM_A_SET = (
    "the model takes a set of features, which a report does not read again; 'valence predict "
    "--features FOLDER --page' makes the page"
)


@dataclass(frozen=True)
class RankedRecording:
    """A recording among the best or the worst of a split.

    Attributes
    ----------
    recording
        Its Id.
    kind
        Whether it is one of the best or of the worst.
    ccc
        CCC of its sequences.
    page
        Path of its page beside the report, or `""`.
    why_not
        Why it has no page, or `""`.
    """

    recording: str
    kind: Literal["best", "worst"]
    ccc: float
    page: str = ""
    why_not: str = ""


def rank(tracks: Sequence[Track]) -> tuple[RankedRecording, ...]:
    """Choose the recordings of the highest and of the lowest CCC, three each at most.

    No recording is both. The best come first, from the best on; then the worst, from the worst on.
    """
    scored = [(track.ccc, track.name) for track in tracks if track.ccc is not None]
    scored.sort(key=lambda each: (-each[0], each[1]))
    best = min(_MOST_EACH, (len(scored) + 1) // 2)
    worst = min(_MOST_EACH, len(scored) - best)
    return (
        *(RankedRecording(name, "best", ccc) for ccc, name in scored[:best]),
        *(RankedRecording(name, "worst", ccc) for ccc, name in scored[::-1][:worst]),
    )


def write_pages(
    evidence: Evidence, findings: Findings, predictor: Predictor, folder: Location
) -> tuple[RankedRecording, ...]:
    """Write a page for each of the best and worst recordings whose sound can be read now.

    Parameters
    ----------
    evidence, findings
        Data and scores of the run.
    predictor
        The run's deep model.
    folder
        Folder of the report.

    Returns
    -------
    The recordings, each with its page or with the reason why it has none.
    """
    ranked = rank(findings.tracks[findings.headline])
    if not ranked:
        return ()
    audio: Mapping[str, Location] = {}
    why_not = ""
    if predictor.description.features is not None:
        why_not = _FROM_A_SET
    else:
        try:
            root = Location.parse(str(evidence.record.get("corpus", "")))
            corpus = read_corpus(root, evidence.config.corpus.subjects)
            audio = {recording.id: recording.audio for recording in corpus.recordings}
        except (CorpusError, UsageError, OSError) as error:
            # An address can need a package or a login that this machine lacks.
            why_not = f"the corpus cannot be read now: {error}"
    return tuple(
        _written(each, number, audio, why_not, evidence, predictor, folder)
        for number, each in _numbered(ranked)
    )


def _numbered(
    ranked: Sequence[RankedRecording],
) -> list[tuple[int, RankedRecording]]:
    """Number the recordings of each kind from 1."""
    found: list[tuple[int, RankedRecording]] = []
    for each in ranked:
        before = sum(other.kind == each.kind for _, other in found)
        found.append((before + 1, each))
    return found


def _written(
    ranked: RankedRecording,
    number: int,
    audio: Mapping[str, Location],
    why_not: str,
    evidence: Evidence,
    predictor: Predictor,
    folder: Location,
) -> RankedRecording:
    """Write the page of a recording, or say why there is none."""
    name = ranked.recording
    if not why_not and name not in audio:
        why_not = "the corpus does not hold it now"
    if not why_not:
        try:
            content = _rendered(ranked, audio[name], evidence, predictor, folder / FOLDER)
        except (CorpusError, OSError) as error:
            why_not = f"its sound cannot be read now: {error}"
        else:
            if isinstance(content, bytes):
                # An Id can be any name; a number fits every file system.
                page = f"{FOLDER}/{ranked.kind}-{number}.html"
                (folder / page).write_bytes(content)
                return RankedRecording(name, ranked.kind, ranked.ccc, page)
            why_not = content
    return RankedRecording(name, ranked.kind, ranked.ccc, why_not=why_not)


def _rendered(
    ranked: RankedRecording,
    audio: Location,
    evidence: Evidence,
    predictor: Predictor,
    out: Location,
) -> bytes | str:
    """Render the page of a recording; a sentence if its sound is not the run's, or too long."""
    usable = evidence.usable
    row = usable[usable["Id"] == ranked.recording].iloc[0]
    if float(row["duration"]) > _MOST_SECONDS:
        return (
            f"it lasts longer than {duration(_MOST_SECONDS)}; 'valence predict --page' makes "
            "its page"
        )
    with on_disk(audio) as path:
        if checksum(path) != row["checksum"]:
            return "the corpus now holds another sound than this run was made from"
        timeline = predictor.predict_path(path, name=audio)
        predicted = Predicted(
            name=ranked.recording,
            audio=audio,
            path=path,
            timeline=timeline,
            annotation=_labels(evidence, ranked.recording, len(timeline)),
            stamps=None,
            outcome=PredictionOutcome(
                ranked.recording,
                str(audio),
                "ok",
                rows=len(timeline),
                short=timeline.short,
                sound_seconds=len(timeline) * timeline.step,
                remarks=timeline.remarks,
            ),
            quality=predictor.quality,
            channel=predictor.config.preprocess.channel,
            out=out,
        )
        return render_page(predicted, table=None, most_bytes=_MOST_BYTES)


def _labels(evidence: Evidence, recording: str, n: int) -> dict[str, NDArray[np.float32]]:
    """Read the labels `[n]` of each target that the run joined with a recording's segments."""
    stored = SegmentStore(evidence.run.folder("segments")).read(recording)
    found = {}
    for target in evidence.features.targets:
        values = np.asarray(getattr(stored, target), np.float32)
        if len(values) == n and np.isfinite(values).any():
            found[target] = values
    return found

"""Render a prediction as a picture: the sound above, the curves below."""

from __future__ import annotations

from valence.figures import timeline
from valence.prediction.outputs.predicted import Predicted
from valence.storage.filenames import printable


def render(predicted: Predicted) -> bytes:
    """Draw the curves of a prediction as PNG, with the model's quality in small print."""
    drawn, outcome = predicted.timeline, predicted.outcome
    notes = [f"CCC {value:.2f}" for value in (outcome.ccc or {}).values()]
    if drawn.short:
        notes.append(f"shorter than a sequence: one prediction of {outcome.sound_seconds:g} s")
    silent = predicted.silent
    caption = [*predicted.quality.lines, *(f"Sound: {remark}." for remark in drawn.remarks)]
    if silent is not None and silent.any():
        empty = ", so values are left out" if outcome.masked else ""
        spoken = [f"{of} {value:.2f}" for of, value in (outcome.ccc_speech or {}).items()]
        scores = f" CCC where somebody speaks: {', '.join(spoken)}." if spoken else ""
        caption.append(f"Grey: nobody speaks, judged by {drawn.speech_by}{empty}.{scores}")
    return timeline(
        drawn.time,
        drawn.values,
        targets=drawn.targets,
        envelope=(drawn.envelope[0], drawn.envelope[1]),
        name=printable(outcome.name),
        step=drawn.step,
        note=", ".join(notes),
        caption=caption,
        annotation=predicted.annotation,
        silent=silent,
    ).png()

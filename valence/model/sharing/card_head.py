"""Write the head of a model's card: the YAML that the Hugging Face hub reads.

The keys are those of the hub's description of model cards (hf.co/docs/hub/model-cards, and
modelcard.md of the repository hub-docs). A key whose value the program does not know is left out,
and a comment says so: the licence is the owner's to choose, and a corpus does not state its
language.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_LIBRARY = "valence-speech"
_TAGS = ("audio", "speech", "emotion", "affective-computing", "regression")
_COMMENTS = (
    "# license: not chosen yet. Only the owner can: it follows from the terms of the recordings.",
    "# language: not known to the program. Add the language of the recordings, such as: de",
)


@dataclass(frozen=True)
class Result:
    """The scores of the deep model for one target, on one split.

    Attributes
    ----------
    target, split
        The target, and `"test"` or another split.
    ccc, pcc, mse, mae
        Scores over sequences.
    ccc_ci
        95 % interval of the CCC, if there is one.
    sequences, subjects
        Numbers of sequences and of subjects (or of recordings, where subjects are unknown).
    unit
        `"subject"`, or `"recording"` where subjects are unknown.
    """

    target: str
    split: str
    ccc: float
    pcc: float
    mse: float
    mae: float
    ccc_ci: tuple[float, float] | None
    sequences: int
    subjects: int
    unit: str = "subject"


def card_head(
    *,
    targets: Sequence[str],
    corpus: str | None,
    protocol: str,
    overlap: bool,
    window_seconds: float,
    results: Sequence[Result],
) -> str:
    """Return the YAML head with its marks, for the beginning of a model's `README.md`.

    Parameters
    ----------
    targets
        Targets that the model predicts.
    corpus
        Name of the corpus, without its path; None if it is not recorded.
    protocol
        Protocol that divided the corpus.
    overlap
        Whether a subject may be in more than one split.
    window_seconds
        Length of the sequences that are scored, in seconds.
    results
        The scores. Those of training, and scores that are no numbers, are left out. Without any,
        there is no `model-index`.
    """
    head: dict[str, Any] = {"library_name": _LIBRARY, "tags": [*_TAGS, *targets]}
    protocol_words = f"split protocol {protocol}" + (
        ", subjects may stand in more than one split" if overlap else ", subjects of one split only"
    )
    shown = [_result(each, corpus, protocol_words, window_seconds) for each in results]
    entries = [entry for each, entry in zip(results, shown, strict=True) if _is_shown(each)]
    if entries:
        head["model-index"] = [{"name": f"{' and '.join(targets)} of speech", "results": entries}]
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=100)
    return "\n".join(["---", *_COMMENTS, f"{text}---", ""])


def _is_shown(result: Result) -> bool:
    return result.split != "train" and math.isfinite(result.ccc)


def _result(
    result: Result, corpus: str | None, protocol: str, window_seconds: float
) -> Mapping[str, Any]:
    """Build an entry of `model-index`: the task, the data, and the scores."""
    name = corpus or "not recorded"
    scores = {"ccc": result.ccc, "pcc": result.pcc, "mse": result.mse, "mae": result.mae}
    return {
        "task": {"type": "other", "name": f"{result.target} of speech over time"},
        "dataset": {"name": name, "type": name, "split": result.split},
        "metrics": [
            {
                "type": kind,
                "value": round(float(value), 4),
                "name": f"{_METRICS[kind]} ({_words(result, kind, protocol, window_seconds)})",
            }
            for kind, value in scores.items()
            if math.isfinite(value)
        ],
    }


_METRICS = {
    "ccc": "concordance correlation coefficient",
    "pcc": "Pearson correlation",
    "mse": "mean squared error, labels in [-1, 1]",
    "mae": "mean absolute error, labels in [-1, 1]",
}


def _words(result: Result, kind: str, protocol: str, window_seconds: float) -> str:
    """Say over how much a score is, with its interval and the protocol."""
    over = (
        f"{result.sequences} sequences of {window_seconds:g} s from {result.subjects} "
        f"{result.unit}{'s' if result.subjects != 1 else ''}"
    )
    if kind != "ccc":
        return over
    if result.ccc_ci is None:
        interval = "no interval"
    else:
        interval = f"95 % interval {result.ccc_ci[0]:.3f} to {result.ccc_ci[1]:.3f}"
    return f"{interval}; {over}; {protocol}"

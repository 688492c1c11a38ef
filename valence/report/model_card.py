"""The card that goes with a model: what it is, from whom, how good, and what it is not for."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from valence.checkpoint import ModelDescription
from valence.config import versions
from valence.report.evidence import SPLITS, Evidence
from valence.report.findings import Findings
from valence.report.robustness import Robustness
from valence.words import count, duration, number, plural

_UNKNOWN_LICENCE = "that of the corpus; ask those who gave it what may be done with a model of it"


def model_card(
    evidence: Evidence,
    findings: Findings,
    description: ModelDescription,
    robustness: Robustness | str,
    *,
    parameters: int,
) -> str:
    """The card in Markdown, for `README.md` beside the model.

    Parameters
    ----------
    evidence, findings
        Of the run that made the model.
    description
        What `model.json` says.
    robustness
        Scores on degraded sound, or why there are none.
    parameters
        Number of the model's parameters.
    """
    config = evidence.config
    # Markdown is no HTML: nothing is to be escaped.
    environment = Environment(
        loader=PackageLoader("valence.report", "."),
        autoescape=False,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(
        title=f"{' and '.join(evidence.features.targets).capitalize()} of speech",
        targets=" and ".join(evidence.features.targets),
        parameters=count(parameters),
        version=versions()["valence"],
        synthetic=evidence.synthetic,
        folder=str(evidence.run.root),
        corpus=evidence.record.get("corpus", "not recorded"),
        protocol=evidence.protocol,
        overlap=config.split.allow_subject_overlap,
        licence=description.record.get("licence", _UNKNOWN_LICENCE),
        splits=_splits(evidence),
        scores=_scores(evidence, findings),
        tested=findings.deep[evidence.target]["test"] is not None,
        robustness=_robustness(robustness),
        step=f"{config.preprocess.segment_seconds:g}",
        window=f"{config.sequence.length * config.preprocess.segment_seconds:g}",
    )


def _splits(evidence: Evidence) -> list[dict[str, str]]:
    usable = evidence.recordings[evidence.recordings["status"] == "ok"]
    rows = []
    for split in SPLITS:
        own = usable[usable["split"] == split]
        if len(own):
            rows.append(
                {
                    "name": split,
                    "recordings": plural(len(own), "recording"),
                    "subjects": plural(own["subject"].nunique(), "subject"),
                    "sound": duration(float(own["duration"].sum())),
                }
            )
    return rows


def _scores(evidence: Evidence, findings: Findings) -> list[dict[str, Any]]:
    rows = []
    for target, by_split in findings.deep.items():
        for split, scores in by_split.items():
            if scores is None:
                continue
            ends = scores.ccc_ci
            rows.append(
                {
                    "target": target,
                    "split": split,
                    "ccc": number(scores.ccc),
                    "interval": "none"
                    if ends is None
                    else f"{number(ends[0])} to {number(ends[1])}",
                    "pcc": number(scores.pcc),
                    "mse": number(scores.mse, 4),
                    "mae": number(scores.mae, 4),
                    "n": count(scores.n),
                    "subjects": evidence.subjects(split),
                }
            )
    return rows


def _robustness(found: Robustness | str) -> list[str]:
    if isinstance(found, str):
        return []
    told = ", ".join(f"{each.label} {number(each.scores.ccc)}" for each in found.conditions)
    return [f"CCC on degraded sound ({found.split} set): {told}."]

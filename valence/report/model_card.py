"""Write the model's card from the report: the training data, and scores with intervals."""

from __future__ import annotations

from typing import Any

from valence.formatting import count, duration, number
from valence.model.card import Card, sources
from valence.model.quality import Quality, quality_of_record
from valence.model.serialization import ModelDescription
from valence.model.sharing.card_head import Result
from valence.report.analysis.results import Evidence
from valence.report.analysis.robustness import Robustness
from valence.report.analysis.scores import Findings, split_rows
from valence.report.page.wording import interval_words


def model_card(
    evidence: Evidence,
    findings: Findings,
    description: ModelDescription,
    robustness: Robustness | str,
    *,
    parameters: int,
    quality: Quality,
) -> str:
    """Write the card in Markdown, for `README.md` beside the model.

    Parameters
    ----------
    evidence, findings
        Data and scores of the run that made the model.
    description
        Content of `model.json`.
    robustness
        Scores on degraded sound, or why there are none.
    parameters
        Number of the model's parameters.
    quality
        Quality of the model, which the first line of the card states.
    """
    config = evidence.config
    remarks = []
    if findings.headline != "test":
        remarks.append("No recording of the test set has labels, so there is no test score.")
    if isinstance(robustness, Robustness):
        scores = "; ".join(
            f"{each.label} {number(each.scores.ccc)}" for each in robustness.conditions
        )
        remarks.append(f"CCC on degraded sound ({robustness.split} set): {scores}.")
    return Card(
        targets=evidence.features.targets,
        parameters=parameters,
        segment_seconds=config.preprocess.segment_seconds,
        length=config.sequence.length,
        record={
            **description.record,
            **evidence.record,
            "subjects_remark": evidence.subjects_known["remark"],
            "agreement": evidence.agreement,
        },
        protocol=evidence.protocol,
        overlap=config.split.allow_subject_overlap,
        splits=[
            f"{row['split']}: {sources(row['recordings'], row['subjects'], evidence.unit)}, "
            f"{duration(row['seconds'])}."
            for row in split_rows(evidence)
            if row["recordings"]
        ],
        scores=_scores(evidence, findings),
        results=[
            Result(
                target,
                split,
                *(scores.ccc, scores.pcc, scores.mse, scores.mae, scores.ccc_ci),
                sequences=scores.n,
                subjects=evidence.subjects(split),
                unit=evidence.unit.one,
            )
            for target, by_split in findings.deep.items()
            for split, scores in by_split.items()
            if scores is not None
        ],
        remarks=remarks,
        quality=quality,
        features=description.features,
    ).markdown()


def evaluation(evidence: Evidence, findings: Findings, sha256: str) -> dict[str, Any]:
    """Build the content of `evaluation.json` for `valence.model.quality.write_evaluation`.

    Parameters
    ----------
    evidence, findings
        Data and scores of the run that made the model.
    sha256
        Digest of the weights.
    """
    usable = evidence.usable
    train = usable[usable["split"] == "train"]
    known_by = evidence.stages["segments"]["summary"].get("subjects", {})
    subjects = evidence.subjects("test")
    return {
        "model": sha256,
        **quality_of_record(evidence.record),
        "recordings": len(train),
        "subjects": int(train["subject"].nunique()),
        "seconds": float(train["duration"].sum()),
        "subjects_remark": known_by.get("remark", ""),
        "test": {
            target: None
            if (scores := by_split["test"]) is None
            else {
                "ccc": scores.ccc,
                "ccc_ci": None if scores.ccc_ci is None else list(scores.ccc_ci),
                "mse": scores.mse,
                "n": scores.n,
                "subjects": subjects,
            }
            for target, by_split in findings.deep.items()
        },
    }


def _scores(evidence: Evidence, findings: Findings) -> list[dict[str, str]]:
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
                    "interval": interval_words(scores.to_json(), evidence.unit)
                    if ends is None
                    else f"{number(ends[0])} to {number(ends[1])}",
                    "pcc": number(scores.pcc),
                    "mse": number(scores.mse, 4),
                    "mae": number(scores.mae, 4),
                    "n": count(scores.n),
                    "subjects": count(evidence.subjects(split)),
                }
            )
    return rows

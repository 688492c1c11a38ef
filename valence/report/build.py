"""Write the report of a run: one page, the numbers on it, and every prediction."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from valence.config import Config
from valence.errors import DamagedError, OutputError
from valence.formatting import duration
from valence.model.quality import EVALUATION, is_evaluated, read_quality, write_evaluation
from valence.model.serialization import CARD, load_own_model
from valence.prediction.predictor import Predictor
from valence.provenance import fingerprint
from valence.report.analysis.attention import read_examples
from valence.report.analysis.results import Evidence, read_evidence
from valence.report.analysis.robustness import NO_LABELS, Robustness, measure
from valence.report.analysis.runtimes import costs, machine
from valence.report.analysis.scores import find, metrics_json, predictions
from valence.report.model_card import evaluation, model_card
from valence.report.page import sections as story
from valence.report.page.render import Page
from valence.run import FORMAT, Run, Stage
from valence.storage.kept_file import parse_json
from valence.storage.location import Location
from valence.storage.manifest import digest_of


def write_report(run: Run, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `report.html`, `metrics.json`, `predictions.csv` and `figures/*.png` of a run.

    The model's card (`README.md`) and `evaluation.json` in the model's folder are written too,
    because they state the scores. A finished report of the same results is kept, except in three
    cases: it was written before there was a sweep; it could not measure robustness; or one of its
    files is missing or was changed. To find changes, all files are read and compared with their
    stored digests. A card that was edited since a report wrote it is renamed to
    `README.md.damaged` first.

    Parameters
    ----------
    run
        A run whose preprocessing, training and extraction are finished.
    overwrite
        Whether to replace a report of other results, and to make one of the same results again.

    Returns
    -------
    The summary in `stage.json`, the content of `metrics.json` under the key `metrics`, and under
    `remarks` what the user must know about renamed files.

    Raises
    ------
    MissingStageError
        If a stage that the report needs is not finished.
    StaleError
        If the folder holds a report of other results and `overwrite` is False.
    ModelError
        If the run's model is damaged, or is not the model that the run's training made.
    OutputError
        If an edited card cannot be renamed.
    """
    began = time.monotonic()
    evidence = read_evidence(run)
    # Check the model even for a finished report: its scores must not lie beside other weights.
    model, description = load_own_model(run)
    stage = run.stage("report")
    folder = run.folder("report")
    made_of, may_go = _made_of(evidence), overwrite or _may_go(stage)
    state = stage.standing(made_of, overwrite=may_go)
    if state == "done":
        record = stage.record()
        assert record is not None, "what is done has a record"
        summary: dict[str, Any] = record["summary"]
        if not overwrite and _is_whole(stage, summary, run, description.sha256):
            metrics = parse_json((folder / "metrics.json").read_bytes())
            return {**summary, "metrics": metrics, "remarks": []}
    # The record that tells an edited card goes with `begin`.
    remarks = _set_edited_card_aside(stage, run.model / CARD)
    stage.begin(made_of, overwrite=may_go, again=state == "done")
    findings = find(evidence)
    examples = read_examples(evidence, model)
    found = measure(evidence, Predictor(model, description))
    sections = [
        story.headline(evidence, findings),
        story.agreement(evidence, findings),
        story.regressors(evidence),
        story.robustness(found, evidence),
        story.training(evidence, findings),
        story.model(evidence, examples),
        story.corpus(evidence, findings),
    ]
    drawn = [f"figures/{each.name}.png" for section in sections for each in section.drawings]
    for section in sections:
        for drawing in section.drawings:
            (folder / "figures" / f"{drawing.name}.png").write_bytes(drawing.png())
    (folder / "predictions.csv").write_text(predictions(evidence).to_csv(index=False))
    write_evaluation(run.model, evaluation(evidence, findings, description.sha256))
    quality = read_quality(
        run.model, sha256=description.sha256, record=description.record, target=evidence.target
    )
    card = model_card(
        evidence, findings, description, found, parameters=examples.parameters, quality=quality
    )
    (run.model / CARD).write_text(card)
    spent, where = costs(evidence, report=time.monotonic() - began), machine(evidence)
    command, seeds = _command(evidence), _seeds(evidence.config)
    versions = {
        str(name): record["versions"]
        for name, record in evidence.stages.items()
        if name != "report"
    }
    sections.append(story.cost(spent, where))
    sections.append(story.repeating(evidence, command, seeds, versions))
    robustness = found.to_json() if isinstance(found, Robustness) else {"skipped": found}
    metrics = metrics_json(
        evidence,
        findings,
        robustness=robustness,
        attention=examples.to_json(),
        parameters=examples.parameters,
        times=[each.to_json() for each in spent],
        machine=where,
        command=command,
        seeds=seeds,
        versions=versions,
        configuration=evidence.config.model_dump(mode="json"),
    )
    (folder / "metrics.json").write_json(metrics)
    page = Page(
        title=f"{run.root.name} – valence",
        heading=f"{evidence.target.capitalize()} of speech: {run.root.name}",
        lead=_lead(evidence),
        notices=story.notices(evidence, findings),
        sections=sections,
        footer="The numbers on this page stand in metrics.json, every prediction in "
        "predictions.csv, and the figures in the folder figures, beside it.",
    )
    (folder / "report.html").write_text(page.html())
    files = ["report.html", "metrics.json", "predictions.csv", *drawn]
    summary = {
        "seconds": time.monotonic() - began,
        "digest": fingerprint(
            {key: value for key, value in metrics.items() if key not in ("times", "machine")}
        ),
        "files": files,
        "beside_the_model": {name: digest_of(run.model / name) for name in (CARD, EVALUATION)},
        "not_measured": robustness.get("skipped"),
    }
    stage.finish(summary, files)
    return {**summary, "metrics": metrics, "remarks": remarks}


def _set_edited_card_aside(stage: Stage, card: Location) -> list[str]:
    """Rename a model's card that is not as the last report wrote it, and say so.

    Raises
    ------
    OutputError
        If it cannot be renamed.
    """
    try:
        record = stage.record()
    except DamagedError:
        # The report is to be overwritten, and nothing tells what the card was.
        return []
    summary = {} if record is None else record["summary"]
    noted = summary.get("beside_the_model", {}).get(CARD)
    if noted is None or not card.exists() or digest_of(card) == noted:
        return []
    aside = card.set_aside()
    if aside is None:
        raise OutputError(
            f"'{card}' is not as the last report wrote it, and it cannot be renamed. Expected to "
            "keep it under another name before a new card is written: move it away."
        )
    return [
        f"'{card}' was not as the last report wrote it. It was renamed to '{aside.name}', and a "
        "new card was written: take over from there what you need."
    ]


def _may_go(stage: Stage) -> bool:
    """Return whether replacing a report loses nothing: it has no sweep, or an older format."""
    record = stage.record()
    return record is not None and (
        record["made_of"].get("sweep") is None or record["made_of"]["format"] != FORMAT["report"]
    )


def _is_whole(stage: Stage, summary: Mapping[str, Any], run: Run, sha256: str) -> bool:
    """Return whether a finished report has all its files unchanged and all that can be measured."""
    missed = summary["not_measured"] not in (None, NO_LABELS)
    if missed or not is_evaluated(run.model, sha256):
        return False
    # Older versions stored no digests of their files in the model's folder.
    beside, noted = summary.get("beside_the_model", {}), stage.noted()
    return (
        bool(beside and noted)
        and _are_as_noted(run.model, beside)
        and _are_as_noted(stage.folder, noted)
    )


def _are_as_noted(folder: Location, noted: Mapping[str, str]) -> bool:
    """Return whether all files have the stored digests; size and time are not trusted."""
    try:
        return all(digest_of(folder / name) == digest for name, digest in noted.items())
    except FileNotFoundError:
        return False


def _made_of(evidence: Evidence) -> dict[str, Any]:
    digests: dict[str, Any] = {
        name: evidence.stages[name]["fingerprint"] if name in evidence.stages else None
        for name in ("segments", "train", "features", "sweep")
    }
    return digests


def _lead(evidence: Evidence) -> str:
    usable = evidence.recordings[evidence.recordings["status"] == "ok"]
    sound = float(usable["duration"].sum())
    return (
        f"{' and '.join(evidence.features.targets).capitalize()}, predicted moment by moment from "
        f"{evidence.sources(usable)}, {duration(sound)} in all."
    )


def _command(evidence: Evidence) -> str:
    """Build the command that makes the same run beside this one."""
    run = evidence.run
    again = replace(run.root, path=f"{run.root.path}-again")
    corpus = str(evidence.record.get("corpus", "CORPUS"))
    # 'valence demo' makes the corpus inside its own run.
    made = evidence.synthetic and corpus == str(run.root / "corpus")
    what = ["demo"] if made else ["run", corpus]
    return shlex.join(["valence", *what, "--config", str(run.config_file), "--out", str(again)])


def _seeds(config: Config) -> dict[str, Any]:
    return {
        "split": config.split.seed,
        "preprocess": config.preprocess.seed,
        "training": list(config.train.seeds),
        "sweep": config.sweep.seed,
    }

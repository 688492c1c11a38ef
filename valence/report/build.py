"""Write the report of a run: one page, the numbers on it, and every prediction."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from valence.config import Config
from valence.errors import DamagedError, OutputError, StaleError
from valence.formatting import duration
from valence.model.quality import EVALUATION, Quality, is_evaluated, read_quality, write_evaluation
from valence.model.serialization import CARD, ModelDescription, load_own_model
from valence.prediction.predictor import Predictor
from valence.provenance import fingerprint
from valence.report.analysis.attention import Examples, read_examples
from valence.report.analysis.results import Evidence, read_evidence
from valence.report.analysis.robustness import FROM_A_SET, NO_LABELS, Robustness, measure
from valence.report.analysis.runtimes import Cost, costs, machine
from valence.report.analysis.scores import Findings, find, metrics_json, predictions
from valence.report.model_card import evaluation, model_card
from valence.report.page import sections as story
from valence.report.page.feature_sets import feature_sets
from valence.report.page.recordings import recordings
from valence.report.page.render import Page, Section
from valence.report.recordings import RankedRecording, write_pages
from valence.run import Run
from valence.stage import FORMAT, Stage, StageName
from valence.storage.kept_file import parse_json
from valence.storage.location import Location
from valence.storage.manifest import digest_of

_SHOWN: tuple[StageName, ...] = ("segments", "train", "features", "sweep")


def write_report(run: Run, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `report.html`, `metrics.json`, `predictions.csv` and `figures/*.png` of a run.

    The model's card (`README.md`) and `evaluation.json` in the model's folder are written too,
    because they state the scores. A finished report of the same results is kept, except in four
    cases: it was written before there was a sweep; it could not measure robustness; it could not
    show the attention; or one of its files is missing or was changed. To find changes, all files
    are read and compared with their stored digests. A card that was edited since a report wrote it
    is renamed to `README.md.damaged` first.

    Parameters
    ----------
    run
        A run whose preprocessing, training and extraction are finished.
    overwrite
        Whether to replace a report of other results, and to make one of the same results again.

    Returns
    -------
    The summary in `stage.json`, the content of `metrics.json` under the key `metrics`, and under
    `remarks` what the user must know about renamed files and about sweeps that are not shown.

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
    made_of = _made_of(evidence)
    left_out = [each.sentence for each in evidence.unused_set_sweeps]
    try:
        opening = stage.opened(
            made_of,
            overwrite=overwrite or _may_go(stage, made_of),
            lost=lambda record: _lacks(stage, record["summary"], run, description.sha256),
        )
    except StaleError as error:
        outdated = [each.sentence for each in evidence.unused_set_sweeps if each.is_outdated]
        raise StaleError(" ".join([*outdated, str(error)])) from error
    if opening.is_whole and not overwrite:
        metrics = parse_json((stage.folder / "metrics.json").read_bytes())
        return {**opening.summary, "metrics": metrics, "remarks": left_out}
    # The record that tells an edited card goes with `begin`.
    remarks = [*_set_edited_card_aside(stage, run.model / CARD), *left_out]
    opening.begin()
    content = _Content(
        evidence,
        description,
        find(evidence),
        read_examples(evidence, model),
        measure(evidence, Predictor(model, description)),
    )
    # The recordings' pages show the scores, which are read from the model's folder.
    _write_card(content)
    predictor = Predictor(model, description, quality=_quality(content))
    ranked = write_pages(evidence, content.findings, predictor, stage.folder)
    sections = _sections(content, ranked)
    drawn = _write_figures(stage.folder, sections)
    (stage.folder / "predictions.csv").write_text(predictions(evidence).to_csv(index=False))
    spent = costs(evidence, report=time.monotonic() - began)
    metrics = _metrics(content, spent)
    (stage.folder / "metrics.json").write_json(metrics)
    sections.append(story.cost(spent, metrics["machine"]))
    sections.append(
        story.repeating(evidence, metrics["command"], metrics["seeds"], metrics["versions"])
    )
    (stage.folder / "report.html").write_text(_page(content, sections).html())
    files = ["report.html", "metrics.json", "predictions.csv", *drawn]
    files += [each.page for each in ranked if each.page]
    summary = {
        "seconds": time.monotonic() - began,
        "digest": fingerprint(
            {key: value for key, value in metrics.items() if key not in ("times", "machine")}
        ),
        "files": files,
        "beside_the_model": {name: digest_of(run.model / name) for name in (CARD, EVALUATION)},
        "not_measured": metrics["robustness"].get("skipped"),
        **({"not_shown": content.examples.attention} if content.examples.is_lacking else {}),
    }
    stage.finish(summary, files)
    return {**summary, "metrics": metrics, "remarks": remarks}


@dataclass(frozen=True)
class _Content:
    """All results that the page, `metrics.json` and the model's card state."""

    evidence: Evidence
    description: ModelDescription
    findings: Findings
    examples: Examples
    robustness: Robustness | str


def _sections(content: _Content, ranked: Sequence[RankedRecording]) -> list[Section]:
    """Build the sections that hold results, in the order of the page."""
    evidence, findings = content.evidence, content.findings
    of_sets = feature_sets(evidence, findings)
    best_and_worst = recordings(ranked, evidence, findings)
    return [
        story.headline(evidence, findings),
        story.agreement(evidence, findings),
        *([] if best_and_worst is None else [best_and_worst]),
        story.regressors(evidence),
        *([] if of_sets is None else [of_sets]),
        story.robustness(content.robustness, evidence),
        story.training(evidence, findings),
        story.model(evidence, content.examples, content.description.features),
        story.corpus(evidence, findings),
    ]


def _write_figures(folder: Location, sections: Sequence[Section]) -> list[str]:
    """Write each drawing as PNG, and return the names of the files in the folder."""
    names = []
    for section in sections:
        for drawing in section.drawings:
            names.append(f"figures/{drawing.name}.png")
            (folder / names[-1]).write_bytes(drawing.png())
    return names


def _write_card(content: _Content) -> None:
    """Write the scores and the card into the model's folder."""
    evidence, findings, description = content.evidence, content.findings, content.description
    folder = evidence.run.model
    write_evaluation(folder, evaluation(evidence, findings, description.sha256))
    card = model_card(
        evidence,
        findings,
        description,
        content.robustness,
        parameters=content.examples.parameters,
        quality=_quality(content),
    )
    (folder / CARD).write_text(card)


def _quality(content: _Content) -> Quality:
    """Read the quality that the evaluation in the model's folder states."""
    description, evidence = content.description, content.evidence
    return read_quality(
        evidence.run.model,
        sha256=description.sha256,
        record=description.record,
        target=evidence.target,
    )


def _metrics(content: _Content, spent: Sequence[Cost]) -> dict[str, Any]:
    """Build the content of `metrics.json`."""
    evidence, robustness = content.evidence, content.robustness
    sets = evidence.set_sweeps
    return metrics_json(
        evidence,
        content.findings,
        robustness=robustness.to_json()
        if isinstance(robustness, Robustness)
        else {"skipped": robustness},
        attention=content.examples.to_json(),
        parameters=content.examples.parameters,
        times=[each.to_json() for each in spent],
        machine=machine(evidence),
        command=_command(evidence),
        seeds=_seeds(evidence.config),
        versions={
            str(name): record["versions"]
            for name, record in evidence.stages.items()
            if name != "report"
        },
        configuration=evidence.config.model_dump(mode="json"),
        **({"feature_sets": [each.to_json() for each in sets]} if sets else {}),
    )


def _page(content: _Content, sections: Sequence[Section]) -> Page:
    evidence = content.evidence
    name = evidence.run.root.name
    return Page(
        title=f"{name} – valence",
        heading=f"{evidence.target.capitalize()} of speech: {name}",
        lead=_lead(evidence),
        notices=story.notices(evidence, content.findings),
        sections=sections,
        footer="The numbers on this page stand in metrics.json, every prediction in "
        "predictions.csv, and the figures in the folder figures, beside it.",
    )


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


def _may_go(stage: Stage, made_of: Mapping[str, Any]) -> bool:
    """Return whether replacing a report loses nothing.

    It has no sweep, or an older format; or all that it shows stands there still, and a feature set
    was swept since.
    """
    record = stage.record()
    if record is None:
        return False
    there = record["made_of"]
    if there.get("sweep") is None or there["format"] != FORMAT["report"]:
        return True
    shown, now = there.get("feature_sets", {}), made_of.get("feature_sets", {})
    same = all(there.get(name) == made_of[name] for name in _SHOWN)
    return same and shown.items() < now.items()


def _lacks(stage: Stage, summary: Mapping[str, Any], run: Run, sha256: str) -> list[str]:
    """List what a finished report lacks: measurements that failed, or files as they were written.

    Size and time of a file are not trusted: each file is read.
    """
    lacks = []
    if summary["not_measured"] not in (None, NO_LABELS, FROM_A_SET):
        lacks.append("robustness could not be measured")
    if "not_shown" in summary:
        lacks.append("attention could not be shown")
    # Older versions stored no digests of their files in the model's folder.
    beside, noted = summary.get("beside_the_model", {}), stage.noted()
    if not (
        is_evaluated(run.model, sha256)
        and beside
        and noted
        and _are_as_noted(run.model, beside)
        and _are_as_noted(stage.folder, noted)
    ):
        lacks.append("files are missing or were changed")
    return lacks


def _are_as_noted(folder: Location, noted: Mapping[str, str]) -> bool:
    """Return whether all files have the stored digests; size and time are not trusted."""
    try:
        return all(digest_of(folder / name) == digest for name, digest in noted.items())
    except FileNotFoundError:
        return False


def _made_of(evidence: Evidence) -> dict[str, Any]:
    digests: dict[str, Any] = {
        name: evidence.stages[name]["fingerprint"] if name in evidence.stages else None
        for name in _SHOWN
    }
    sets = {each.name: each.fingerprint for each in evidence.set_sweeps}
    sets |= {each.name: "outdated" for each in evidence.unused_set_sweeps if each.is_outdated}
    # A report of a run without swept sets keeps the origin that older versions gave it.
    return {**digests, "feature_sets": sets} if sets else digests


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

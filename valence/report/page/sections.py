"""Build the sections of a run's report: the order and the words of its findings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from valence import figures
from valence.formatting import Unit, count, interval, number, plural, raters_agree, spread
from valence.model.network import FeatureInput
from valence.report.analysis.attention import Examples
from valence.report.analysis.results import Evidence
from valence.report.analysis.robustness import Robustness
from valence.report.analysis.runtimes import Cost
from valence.report.analysis.scores import PAPER_DEEP, STEPS, Findings
from valence.report.page import tables
from valence.report.page.render import Section, Tile
from valence.report.page.wording import interval_words, verdict
from valence.uncertainty import FEWEST


def headline(evidence: Evidence, findings: Findings) -> Section:
    """Show the scores beside those of the study and of the baselines."""
    section = Section("result", "Result")
    split, unit = findings.headline, evidence.unit
    deep = findings.deep[evidence.target][split]
    tiles = []
    if deep is not None:
        tiles.append(Tile(f"Deep model, {split}", number(deep.ccc), _ci(deep.to_json(), unit)))
    selection = evidence.selection
    if selection is not None:
        best = selection["best"]
        scores = best[split]
        if scores is not None:
            detail = f"{_ci(scores, unit)}; {' + '.join(best[step] for step in STEPS)}"
            tiles.append(Tile(f"Best regressor, {split}", number(scores["ccc"]), detail))
        for name, title in (
            ("functionals", "Statistics of the mel"),
            ("constant", "Always the mean"),
        ):
            baseline = selection["baselines"].get(name, {}).get(split)
            if baseline is not None:
                known = name == "functionals"
                detail = f"baseline, {_ci(baseline, unit)}" if known else "baseline, CCC"
                tiles.append(Tile(title, number(baseline["ccc"]), detail))
    raters = (evidence.agreement or {}).get(evidence.target)
    if raters is not None and raters["as_rated"]["ccc"] is not None:
        detail = f"mean CCC of pairs of {plural(raters['raters'], 'rater')}, as rated"
        tiles.append(Tile("Raters among each other", number(raters["as_rated"]["ccc"]), detail))
    if evidence.protocol == "paper":
        tiles.append(
            Tile("The study, its test set", number(PAPER_DEEP["ccc"]), "deep model on MuSe")
        )
    section.tile(tiles)
    section.say(
        "CCC, the concordance correlation coefficient, is 1 where prediction and annotation are "
        "equal, 0 where they have nothing in common, and falls with a wrong mean or spread too. "
        + _verdict(evidence, findings, split)
    )
    section.tabulate(tables.results_table(evidence, findings))
    for target in evidence.features.targets:
        if text := raters_agree(evidence.agreement, target):
            window = evidence.config.sequence.length * evidence.config.preprocess.segment_seconds
            section.say(f"{text} The model's scores are of windows of {window:g} s.")
    if split != "test":
        section.say("No recording of the test set has labels, so there is no test score.")
    if evidence.protocol == "paper":
        section.head("Beside the study")
        section.tabulate(tables.paper_table(evidence, findings))
    return section


def agreement(evidence: Evidence, findings: Findings) -> Section:
    """Show predicted against annotated values: all, by subject, over time, and distributions."""
    target = evidence.target
    section = Section("agreement", "Predicted against annotated")
    split = findings.headline
    scores = findings.deep[target][split]
    rows = evidence.features.of(split)
    if scores is None:
        section.say("Neither the validation nor the test set has labels.")
        return section
    of_points = figures.scatter(rows.target[:, 0], rows.prediction[:, 0], scores, target=target)
    caption = (
        f"Every sequence of the {split} set is a point: CCC {number(scores.ccc)}, PCC "
        f"{number(scores.pcc)}, MSE {number(scores.mse, 4)}, MAE {number(scores.mae, 4)}, "
        f"n = {scores.n}. The flatter the line, the more the predictions keep to the middle."
    )
    # If overlap was allowed, a subject may be in two splits and then has a score in each.
    of_each = [
        (subject, part, each.ccc)
        for part, by_subject in findings.subjects.items()
        for subject, each in by_subject.items()
    ]
    unit = evidence.unit
    people = len({subject for subject, _, _ in of_each})
    section.show_beside(
        (of_points, caption),
        (
            figures.by_subject(of_each, target=target, unit=unit.one),
            f"CCC within each of {unit.count(people)}. It is lower than over all where {unit.one}s "
            "differ in their mean.",
        ),
    )
    section.tabulate(
        tables.subjects_table(findings, unit), folded=f"Scores of each {unit.one} as a table"
    )
    tracks = findings.tracks[split]
    length = evidence.config.sequence.length * evidence.config.preprocess.segment_seconds
    first = 1
    for drawing in figures.over_time(tracks, target=target):
        last = min(first + figures.MOST_PANELS - 1, len(tracks))
        which = (
            plural(len(tracks), "recording")
            if first == 1 and last == len(tracks)
            else f"Recordings {first} to {last} of {len(tracks)}"
        )
        section.show(
            drawing,
            f"{which} of the {split} set over time. A value speaks of the {length:g} s around it. "
            "Every value stands in predictions.csv.",
        )
        first = last + 1
    section.head("Distribution")
    section.show(
        figures.distributions(findings.shares, target=target),
        "Share of sequences by value. Mean ± standard deviation, annotated and predicted: "
        + "; ".join(
            f"{name} {spread(*of['label'])} and {spread(*of['prediction'])}"
            for name, of in findings.shares.moments.items()
        )
        + ".",
    )
    section.tabulate(
        tables.distribution_table(findings.shares), folded="The distribution as a table"
    )
    return section


def training(evidence: Evidence, findings: Findings) -> Section:
    """Show learning curves and the best epoch of each seed."""
    section = Section("training", "Training")
    seeds = findings.seeds
    if evidence.history is None or seeds is None:
        section.say("This run keeps no history of its training.")
        return section
    section.show(
        figures.learning_curves(evidence.history),
        f"Loss and CCC by epoch for {plural(len(seeds.best), 'seed')}. The model kept is that of "
        "the best validation CCC over all epochs and seeds.",
    )
    section.tabulate(tables.seeds_table(seeds))
    section.tabulate(tables.epochs_table(evidence.history), folded="Every epoch as a table")
    return section


def regressors(evidence: Evidence) -> Section:
    """Show the scores of all combinations of scaler, reducer and regressor."""
    section = Section("regressors", "Regressors on the deep features")
    results, selection = evidence.results, evidence.selection
    if results is None or selection is None:
        section.say(evidence.why_no_sweep)
        return section
    best, sweep = selection["best"], evidence.config.sweep
    section.say(
        f"{plural(len(results), 'combination')}, fitted on the training set's deep features and "
        f"chosen by {selection['select_on']} CCC: {' + '.join(best[step] for step in STEPS)}, with "
        f"{number(best['validation']['ccc'])} in validation"
        + (f" and {number(best['test']['ccc'])} in test" if best["test"] else "")
        + f". {_paired(evidence)}"
    )
    order = [
        step.name for steps in (sweep.scalers, sweep.reducers, sweep.regressors) for step in steps
    ]
    section.show(
        figures.sweep_heatmap(results, order, target=evidence.target),
        "The brighter, the better. The figures stand in the table below, to four decimals.",
    )
    section.tabulate(
        tables.sweep_table(evidence), folded=f"All {len(results)} combinations as a table"
    )
    for remark in selection["remarks"]:
        section.say(f"Remark: {remark}.")
    return section


def robustness(found: Robustness | str, evidence: Evidence) -> Section:
    """Show the scores on degraded sound, or say why there are none."""
    section = Section("robustness", "Robustness")
    if isinstance(found, str):
        section.say(found)
        return section
    bars = [
        figures.Bar(each.label, each.scores.ccc, each.scores.ccc_ci) for each in found.conditions
    ]
    section.show(
        figures.intervals("robustness", bars, title="condition", target=evidence.target),
        f"CCC on the same {plural(found.conditions[0].scores.n, 'sequence')} of "
        f"{plural(found.recordings, 'recording')} of the {found.split} set ({found.seconds:g} s "
        "of sound), changed before preprocessing. White noise is set against each recording's "
        "mean power; telephone is 300 to 3,400 Hz.",
    )
    section.tabulate(tables.robustness_table(found))
    if found.note:
        section.say(found.note)
    return section


def model(evidence: Evidence, examples: Examples, features: FeatureInput | None = None) -> Section:
    """Show the sound of a sequence, the model's architecture and its attention.

    `features` is the set of features that the model takes; None if it takes mel.
    """
    config = evidence.config
    sr, seconds = config.preprocess.sr, config.preprocess.segment_seconds
    where = f"recording {examples.recording}, {examples.split} set"
    section = Section("model", "What the model hears")
    section.show(
        figures.segment_mel(
            examples.mel[examples.loudest],
            sr=sr,
            hop_length=config.mel.hop_length,
            segment_seconds=seconds,
        ),
        f"Mel spectrogram of a segment ({where}, at "
        f"{examples.start_seconds + examples.loudest * seconds:g} s). Its {1000 * seconds:g} ms of "
        "sound are followed by zeros up to the last frame.",
    )
    section.show(
        figures.sequence_mel(examples.mel, sr=sr, segment_seconds=seconds),
        f"Mel spectrogram of a sequence ({where}, from {examples.start_seconds:g} s).",
    )
    shapes = "channels × mel bands × frames"
    if features is not None:
        section.say(
            f"The model does not take the mel: it takes {plural(len(features.columns), 'feature')} "
            f"of the set '{features.set}', which were made elsewhere. The mel shows the sound."
        )
        shapes = "features of a segment"
    section.show(
        figures.architecture(config, 0 if features is None else len(features.columns)),
        f"The model: {count(examples.parameters)} parameters. Shapes are {shapes}, then segments × "
        "values.",
    )
    weights = examples.attention
    if isinstance(weights, str):
        section.say(weights)
        return section
    section.show(
        figures.attention(
            examples.mel,
            weights,
            sr=sr,
            segment_seconds=seconds,
            recording=examples.recording,
            start_seconds=examples.start_seconds,
        ),
        "How much each segment counts in the attention's sum, for the sequence above. The five "
        f"that count most hold {100 * np.sort(weights)[-5:].sum():.0f} % of it; equal weights "
        f"would give {500 / len(weights):.0f} %.",
    )
    section.tabulate(
        tables.attention_table(examples, weights, segment_seconds=seconds),
        folded="The attention as a table",
    )
    return section


def corpus(evidence: Evidence, findings: Findings) -> Section:
    """Show the recordings, their splits, and those that were rejected."""
    section = Section("corpus", "Corpus")
    rejected = int((evidence.recordings["status"] != "ok").sum())
    section.say(
        f"{evidence.sources(evidence.recordings)}, divided by the protocol '{evidence.protocol}'. "
        + (
            f"{plural(rejected, 'recording')} could not be used."
            if rejected
            else "All can be used."
        )
    )
    section.tabulate(tables.splits_table(evidence))
    if rejected:
        section.head("Rejected recordings")
        section.tabulate(tables.rejected_table(evidence))
    section.tabulate(
        tables.recordings_table(evidence, findings), folded="Every recording as a table"
    )
    return section


def cost(found: Sequence[Cost], machine: Mapping[str, Any]) -> Section:
    """Show the time and throughput of each stage, and the machine they were measured on."""
    section = Section("time", "Time")
    section.tabulate(tables.times_table(found))
    text = (
        "The table shows the time of each stage's last call; for the training it shows the time "
        "of all epochs."
    )
    if machine.get("workers"):
        device = "" if machine["device"] is None else f" on {_DEVICES[machine['device']]}"
        text += f" The model was trained by {plural(machine['workers'], 'worker')}{device}."
    if machine.get("cpus"):
        text += (
            f" The commands were given on a machine of {plural(machine['cpus'], 'CPU')} "
            f"({machine['processor']})."
        )
    section.say(text)
    return section


_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def repeating(
    evidence: Evidence,
    command: str,
    seeds: Mapping[str, Any],
    versions: Mapping[str, Mapping[str, str]],
) -> Section:
    """List all that is needed to repeat the run; `versions` are those of each stage."""
    section = Section("repeat", "To repeat it")
    section.say("The same corpus, configuration, seeds and versions give the same figures:")
    section.code(command)
    section.say(
        "Seeds: "
        + "; ".join(
            f"{name} {', '.join(map(str, seed)) if isinstance(seed, list) else seed}"
            for name, seed in seeds.items()
        )
        + "."
    )
    groups: dict[str, list[str]] = {}
    for stage, found in versions.items():
        listed = ", ".join(f"{name} {each}" for name, each in found.items())
        groups.setdefault(listed, []).append(stage)
    for listed, stages in groups.items():
        of = "" if len(groups) == 1 else f" ({', '.join(stages)})"
        section.say(f"Versions{of}: {listed}.")
    section.code(_compact(evidence.config.to_toml()), folded="Configuration")
    return section


def notices(evidence: Evidence, findings: Findings) -> list[str]:
    """List the facts that a reader must know before any number."""
    found = []
    if evidence.synthetic:
        found.append(
            "Synthetic sound: the recordings of this run were made by 'valence demo'. The figures "
            "show that the system works, and say nothing about people."
        )
    if remark := evidence.subjects_known["remark"]:
        found.append(f"{remark[0].upper()}{remark[1:]}.")
    if evidence.config.split.allow_subject_overlap:
        found.append(
            "Subjects may stand in more than one split here (split.allow_subject_overlap): the "
            "scores do not speak of unknown voices."
        )
    if evidence.selection is not None and evidence.select_on == "test":
        found.append(
            "The best regressor was chosen by its test score (sweep.select_on = test), as the "
            "study did: that score flatters it."
        )
    split = findings.headline
    subjects = evidence.subjects(split)
    if subjects < FEWEST:
        found.append(
            f"The {split} set has {evidence.unit.count(subjects)}: no interval can be given, and "
            f"models cannot be told apart from so few. It takes {FEWEST}."
        )
    return found


def _verdict(evidence: Evidence, findings: Findings, split: str) -> str:
    deep = findings.deep[evidence.target][split]
    if deep is None:
        return ""
    # A sweep without the run's segments has no baseline on functionals.
    selection = evidence.selection or {}
    baseline = selection.get("baselines", {}).get("functionals", {}).get(split)
    text = (
        f"The deep model reaches {number(deep.ccc)} in {split}; always predicting the mean gives 0"
    )
    if not selection:
        return f"{text}. 'valence sweep' adds a baseline on plain statistics of the mel."
    if baseline is None:
        return f"{text}."
    text += (
        f", and a ridge regression on plain statistics of the mel gives {number(baseline['ccc'])}."
    )
    paired = selection.get("deep_less_baseline", {}).get("functionals", {}).get(split)
    if paired is None:
        return text
    # The deep model's best epoch was chosen by its validation CCC.
    chosen = "the deep model" if split == "validation" else ""
    found = _difference(
        "The deep model", "that baseline", paired, chosen=chosen, unit=evidence.unit
    )
    return f"{text} {found}"


def _paired(evidence: Evidence) -> str:
    assert evidence.selection is not None
    pairs = evidence.selection["paired"]
    split = "test" if pairs["test"] is not None else "validation"
    if pairs[split] is None:
        return ""
    chosen = "the best regressor" if split == evidence.select_on else ""
    found = _difference(
        "The best regressor", "the deep model", pairs[split], chosen=chosen, unit=evidence.unit
    )
    return f"In {split}: {found}"


def _difference(
    name: str, other: str, paired: Mapping[str, Any], *, chosen: str, unit: Unit
) -> str:
    """State the difference of two CCCs on the same rows, its interval, and the verdict.

    `chosen` names the predictor that was chosen by these rows, or is empty. Such a choice flatters
    the predictor, so no verdict is given.
    """
    text = f"{name}'s CCC less that of {other} is {number(paired['difference'])}"
    ends = f" {interval(paired['ci'])}" if paired["ci"] else ""
    if chosen:
        return (
            f"{text}{ends}. No verdict is given: {chosen} was chosen by these same rows, which "
            "flatters it."
        )
    return f"{text}{ends}. {verdict(name, other, paired, unit)}"


def _compact(toml: str) -> str:
    """Write each flat array of a TOML text on one line."""

    def joined(array: re.Match[str]) -> str:
        return f"[{', '.join(item.strip() for item in array[1].strip().rstrip(',').split(','))}]"

    return re.sub(r"\[\n([^\[\]{}]*?)\]", joined, toml).strip()


def _ci(scores: Mapping[str, Any], unit: Unit) -> str:
    return f"CCC, {interval_words(scores, unit)}"

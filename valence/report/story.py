"""The sections of a run's report: which finding is told where, in what words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from valence import figures
from valence.report import tables
from valence.report.evidence import Evidence
from valence.report.examples import Examples
from valence.report.findings import PAPER_DEEP, Findings
from valence.report.page import Section, Tile
from valence.report.robustness import Robustness
from valence.words import count, interval, number, plural

_FEW = 6


def headline(evidence: Evidence, findings: Findings) -> Section:
    """The scores, beside the study's and the baselines."""
    section = Section("result", "Result")
    split = "test" if findings.deep[evidence.target]["test"] is not None else "validation"
    deep = findings.deep[evidence.target][split]
    tiles = []
    if deep is not None:
        tiles.append(Tile(f"Deep model, {split}", number(deep.ccc), _ci(deep.to_json())))
    selection = evidence.selection
    if selection is not None:
        best = selection["best"]
        scores = best[split]
        name = f"{best['scaler']} + {best['reducer']} + {best['regressor']}"
        if scores is not None:
            tiles.append(Tile(f"Best regressor, {split}", number(scores["ccc"]), f"CCC, {name}"))
        for name, title in (
            ("functionals", "Statistics of the mel"),
            ("constant", "Always the mean"),
        ):
            baseline = selection["baselines"].get(name, {}).get(split)
            if baseline is not None:
                tiles.append(Tile(title, number(baseline["ccc"]), f"baseline, CCC in {split}"))
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
    if split != "test":
        section.say("No recording of the test set has labels, so there is no test score.")
    if evidence.protocol == "paper":
        section.head("Beside the study")
        section.tabulate(tables.paper_table(evidence, findings))
    return section


def agreement(evidence: Evidence, findings: Findings) -> Section:
    """Predicted against annotated values: in all, over time, by subject, in distribution."""
    target = evidence.target
    section = Section("agreement", "Predicted against annotated")
    split = "test" if findings.deep[target]["test"] is not None else "validation"
    scores = findings.deep[target][split]
    rows = evidence.features.of(split)
    if scores is None:
        section.say("Neither the validation nor the test set has labels.")
        return section
    of_points = figures.scatter(rows.target[:, 0], rows.prediction[:, 0], scores, target=target)
    told = (
        f"Every sequence of the {split} set is a point: CCC {number(scores.ccc)}, PCC "
        f"{number(scores.pcc)}, MSE {number(scores.mse, 4)}, MAE {number(scores.mae, 4)}, "
        f"n = {scores.n}. The flatter the line, the more the predictions keep to the middle."
    )
    by_subject = {s: v for split in findings.subjects for s, v in findings.subjects[split].items()}
    where = {s: split for split in findings.subjects for s in findings.subjects[split]}
    of_subjects = figures.by_subject(
        {subject: scores.ccc for subject, scores in by_subject.items()}, where, target=target
    )
    section.show_beside(
        (of_points, told),
        (
            of_subjects,
            f"CCC within each of {plural(len(by_subject), 'subject')}. It is lower than over all "
            "where subjects differ in their mean.",
        ),
    )
    section.tabulate(tables.subjects_table(findings), folded="Scores of each subject as a table")
    tracks = findings.tracks[split]
    length = evidence.config.sequence.length * evidence.config.preprocess.segment_seconds
    section.show(
        figures.over_time(tracks, target=target),
        f"{plural(len(tracks), 'recording')} of the {split} set over time. A value speaks of the "
        f"{length:g} s around it. Every value stands in predictions.csv.",
    )
    groups = {
        name: (own.target[:, 0], own.prediction[:, 0])
        for name in ("train", "validation", "test")
        if len(own := evidence.features.of(name))
    }
    section.head("Distribution")
    section.show(
        figures.distributions(groups, target=target),
        "Share of sequences by value. Mean ± standard deviation, annotated and predicted: "
        + "; ".join(
            f"{name} {_spread(label)} and {_spread(prediction)}"
            for name, (label, prediction) in groups.items()
        )
        + ".",
    )
    return section


def training(evidence: Evidence) -> Section:
    """Learning curves and the best epoch of each seed."""
    section = Section("training", "Training")
    if evidence.history is None or not len(evidence.history):
        section.say("This run keeps no history of its training.")
        return section
    seeds = evidence.history["seed"].nunique()
    section.show(
        figures.learning_curves(evidence.history),
        f"Loss and CCC by epoch for {plural(seeds, 'seed')}. The model kept is that of the best "
        "validation CCC over all epochs and seeds.",
    )
    section.tabulate(tables.seeds_table(evidence.history))
    return section


def regressors(evidence: Evidence) -> Section:
    """The combinations of scaler, reducer and regressor."""
    section = Section("regressors", "Regressors on the deep features")
    results, selection = evidence.results, evidence.selection
    if results is None or selection is None:
        section.say("The sweep has not been run on this run: 'valence sweep' adds it.")
        return section
    best, sweep = selection["best"], evidence.config.sweep
    section.say(
        f"{plural(len(results), 'combination')}, fitted on the training set's deep features and "
        f"chosen by {selection['select_on']} CCC: {best['scaler']} + {best['reducer']} + "
        f"{best['regressor']}, with {number(best['validation']['ccc'])} in validation"
        + (f" and {number(best['test']['ccc'])} in test" if best["test"] else "")
        + f". {_paired(selection)}"
    )
    order = [
        step.name for steps in (sweep.scalers, sweep.reducers, sweep.regressors) for step in steps
    ]
    section.show(
        figures.sweep_heatmap(results, order),
        "The brighter, the better. The figures stand in the table below, to four decimals.",
    )
    section.tabulate(
        tables.sweep_table(results), folded=f"All {len(results)} combinations as a table"
    )
    return section


def robustness(found: Robustness | str, evidence: Evidence) -> Section:
    """Scores on degraded sound, or why there are none."""
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


def model(evidence: Evidence, examples: Examples) -> Section:
    """What goes into the model, how it is built, what it looks at."""
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
        f"{examples.start_seconds + examples.loudest * seconds:g} s).",
    )
    section.show(
        figures.sequence_mel(examples.mel, sr=sr, segment_seconds=seconds),
        f"Mel spectrogram of a sequence ({where}, from {examples.start_seconds:g} s).",
    )
    section.show(
        figures.architecture(config),
        f"The model: {count(examples.parameters)} parameters. Shapes are channels × mel bands × "
        "frames, then segments × values.",
    )
    weights = examples.attention
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
    return section


def corpus(evidence: Evidence, findings: Findings) -> Section:
    """What there was to work with."""
    section = Section("corpus", "Corpus")
    rejected = int((evidence.recordings["status"] != "ok").sum())
    section.say(
        f"{plural(len(evidence.recordings), 'recording')} of "
        f"{plural(evidence.recordings['subject'].nunique(), 'subject')}, divided by the protocol "
        f"'{evidence.protocol}'. "
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


def cost(evidence: Evidence, seconds: Mapping[str, float]) -> Section:
    """Time and throughput."""
    section = Section("time", "Time")
    section.tabulate(tables.times_table(evidence, seconds))
    return section


def repeating(evidence: Evidence, command: str, versions: Mapping[str, Any]) -> Section:
    """All that it takes to have this again."""
    section = Section("repeat", "To repeat it")
    section.say("The same corpus, configuration, seeds and versions give the same figures:")
    section.code(command)
    config = evidence.config
    seeds = {
        "split": config.split.seed,
        "preprocess": config.preprocess.seed,
        "training": ", ".join(map(str, config.train.seeds)),
        "sweep": config.sweep.seed,
    }
    section.say("Seeds: " + "; ".join(f"{name} {seed}" for name, seed in seeds.items()) + ".")
    section.say("Versions: " + ", ".join(f"{name} {each}" for name, each in versions.items()) + ".")
    section.code(_compact(config.to_toml()), folded="Configuration")
    return section


def notices(evidence: Evidence, findings: Findings) -> list[str]:
    """What a reader must know before any number."""
    told = []
    if evidence.synthetic:
        told.append(
            "Synthetic sound: the recordings of this run were made by 'valence demo'. The figures "
            "show that the system works, and say nothing about people."
        )
    if evidence.config.split.allow_subject_overlap:
        told.append(
            "Subjects may stand in more than one split here (split.allow_subject_overlap): the "
            "scores do not speak of unknown voices."
        )
    if evidence.config.sweep.select_on == "test":
        told.append(
            "The best regressor was chosen by its test score (sweep.select_on), as the study did: "
            "that score flatters it."
        )
    split = "test" if findings.deep[evidence.target]["test"] is not None else "validation"
    subjects = evidence.subjects(split)
    if subjects < _FEW:
        told.append(
            f"The {split} set has {plural(subjects, 'subject')}: "
            + ("no interval can be given." if subjects < 2 else "the intervals are rough.")
        )
    return told


def _verdict(evidence: Evidence, findings: Findings, split: str) -> str:
    deep = findings.deep[evidence.target][split]
    if deep is None:
        return ""
    # Without the segments of the run, a sweep has no functionals to compare with.
    baselines = {} if evidence.selection is None else evidence.selection["baselines"]
    baseline = baselines.get("functionals", {}).get(split)
    told = f"The deep model reaches {number(deep.ccc)} in {split}"
    if baseline is None:
        return f"{told}; always saying the mean reaches 0."
    relation = "above" if deep.ccc > baseline["ccc"] else "not above"
    return (
        f"{told}, {relation} the {number(baseline['ccc'])} of a ridge regression on plain "
        "statistics of the mel; always saying the mean reaches 0."
    )


def _paired(selection: Mapping[str, Any]) -> str:
    split = "test" if selection["paired"]["test"] is not None else "validation"
    paired = selection["paired"][split]
    if paired is None:
        return ""
    told = f"In {split} its CCC less the deep model's is {number(paired['difference'])}"
    return f"{told} {interval(paired['ci'])}.".replace(" .", ".")


def _compact(toml: str) -> str:
    """TOML with short arrays on one line."""

    def joined(array: re.Match[str]) -> str:
        return f"[{', '.join(item.strip() for item in array[1].strip().rstrip(',').split(','))}]"

    return re.sub(r"\[\n([^\[\]{}]*?)\]", joined, toml).strip()


def _ci(scores: Mapping[str, Any]) -> str:
    return (
        f"CCC, 95 % interval {interval(scores['ccc_ci'])}"
        if scores["ccc_ci"]
        else "CCC, no interval"
    )


def _spread(values: Any) -> str:
    return f"{number(float(np.mean(values)), 2)} ± {number(float(np.std(values)), 2)}"

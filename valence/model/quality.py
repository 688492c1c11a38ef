"""The known quality of a model: its training recordings, and its score on the test set.

The scores are known once the report has been written. The report writes them beside the weights,
with the digest of the weights, so that every copy of the model's folder has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from valence.formatting import Unit, duration, interval, number, plural, unit_of
from valence.provenance import fingerprint
from valence.storage.addresses import name_of
from valence.storage.kept_file import TooLargeError, parse_json, read_at_most
from valence.storage.location import Location

EVALUATION = "evaluation.json"
_FORMAT = 1
# No evaluation is nearly as large; a larger file is not read.
_MOST_BYTES = 2**20
_REMEDY = "'valence report RUN' writes its scores into the model's folder"


@dataclass(frozen=True)
class Quality:
    """The known quality of a model; unknown facts are None.

    Attributes
    ----------
    corpus
        Name of the corpus that the model was trained on.
    synthetic
        Whether that corpus is synthetic sound.
    recordings, subjects, seconds
        Number of training recordings, number of their subjects, and total length. If the subjects
        are unknown, each recording counts as a subject.
    subjects_remark
        The reason why the subjects are unknown, or `""` if they are known.
    target
        The target that the score belongs to.
    predictor
        `"deep model"`, or the steps of the regressor that predicts from the model's features.
    ccc, ccc_ci
        CCC on the test set, and its 95 % interval over subjects, if there is one.
    test_subjects
        Number of subjects of the test set that have labels.
    not_evaluated
        The reason why there is no CCC, or `""` if there is one.
    rmse
        Root mean square error on the test set; None where the record does not state it.
    """

    corpus: str | None = None
    synthetic: bool = False
    recordings: int | None = None
    subjects: int | None = None
    seconds: float | None = None
    subjects_remark: str = ""
    target: str = "valence"
    predictor: str = "deep model"
    ccc: float | None = None
    ccc_ci: tuple[float, float] | None = None
    test_subjects: int | None = None
    not_evaluated: str = ""
    rmse: float | None = None

    @property
    def training(self) -> str:
        """Name the corpus that the model was trained on, and its size."""
        what = f"'{self.corpus}'" if self.corpus else "a corpus that is not recorded"
        known = []
        if self.recordings is not None:
            known.append(plural(self.recordings, "recording"))
        unit = self._unit
        if unit.one == "recording":
            known.append(unit.note)
        elif self.subjects is not None:
            known.append(unit.count(self.subjects))
        if self.seconds is not None:
            known.append(duration(self.seconds))
        kind = "synthetic sound, " if self.synthetic else ""
        return f"trained on {kind}{what}" + (f" ({', '.join(known)})" if known else "")

    @property
    def score(self) -> str:
        """State the score on the test set, or why there is none."""
        if self.ccc is None:
            return f"not evaluated: {self.not_evaluated}"
        subjects = self._test_subjects()
        if self.ccc_ci is None:
            return f"test CCC {number(self.ccc)} from {subjects}: unknown for others"
        return f"test CCC {number(self.ccc)} {interval(self.ccc_ci)} from {subjects}"

    @property
    def sentence(self) -> str:
        """Return a sentence of `training` and `score`."""
        text = f"{self.training}; {self.score}."
        return text[0].upper() + text[1:]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return warnings in plain words against using the model."""
        found = []
        if self.synthetic:
            found.append(
                "It was trained on synthetic sound and shows that the system works: do not use it "
                "on people."
            )
        if self.ccc is None:
            return tuple(found)
        if self.ccc <= 0:
            found.append(
                f"On its test set it was no better than the mean of the labels (test CCC "
                f"{number(self.ccc)}): do not use it."
            )
        elif self.ccc_ci is None:
            found.append(
                f"From {self._test_subjects()} it cannot be told whether it is better than the "
                "mean of the labels: do not rely on it."
            )
        elif self.ccc_ci[0] <= 0:
            found.append(
                f"It cannot be told from the mean of the labels, because the interval"
                f"{self._unit.over} holds 0: do not use it."
            )
        return tuple(found)

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the sentence and the warnings, for a terminal or a figure."""
        return (self.sentence, *(f"Warning: {warning}" for warning in self.warnings))

    def to_json(self) -> dict[str, Any]:
        """Return JSON of the facts and the words of `sentence` and `warnings`."""
        facts = asdict(self)
        if self.rmse is None:
            # Left out, so that the files of predictions by older models keep their bytes.
            del facts["rmse"]
        return {**facts, "sentence": self.sentence, "warnings": list(self.warnings)}

    def _test_subjects(self) -> str:
        if self.test_subjects is None:
            return f"{self._unit.many} that are not counted"
        return self._unit.count(self.test_subjects)

    @property
    def _unit(self) -> Unit:
        return unit_of(self.subjects_remark)


def write_evaluation(folder: Location, content: Mapping[str, Any]) -> None:
    """Write `evaluation.json` into a model's folder.

    Parameters
    ----------
    folder
        Folder with `model.safetensors`.
    content
        JSON-like: `model` (SHA-256 of the weights), `corpus`, `synthetic`, `recordings`,
        `subjects`, `seconds`, `subjects_remark`, and `test`: `{target: {ccc, ccc_ci, mse,
        subjects}}`, None where the test set has no labels.
    """
    whole = {"format": _FORMAT, **content}
    (folder / EVALUATION).write_json({**whole, "digest": fingerprint(whole)})


def is_evaluated(folder: Location, sha256: str) -> bool:
    """Return whether the folder of a model holds an evaluation of these weights."""
    return isinstance(_read(folder, sha256), dict)


def read_quality(
    folder: Location,
    *,
    sha256: str,
    record: Mapping[str, Any],
    target: str,
    regressor: Mapping[str, Any] | None = None,
) -> Quality:
    """Read the known quality of a model.

    Parameters
    ----------
    folder
        Folder of the model. An evaluation that is damaged, or of other weights, is not used.
    sha256
        Digest of the weights.
    record
        The model's origin, from `model.json`.
    target
        The first of the predicted targets.
    regressor
        The content of `regressor.json`, if a regressor predicts from the model's features.
    """
    found = _read(folder, sha256)
    known = quality_of_record(record) | {"target": target}
    evaluation: Mapping[str, Any] = found if isinstance(found, dict) else {}
    names = ("corpus", "synthetic", "recordings", "subjects", "seconds", "subjects_remark")
    known |= {name: evaluation[name] for name in names if evaluation.get(name) is not None}
    scores = (evaluation.get("test") or {}).get(target)
    subjects = None if scores is None else scores.get("subjects")
    why_not = found if isinstance(found, str) else "no recording of the test set has labels"
    if regressor is not None:
        steps = regressor["steps"].values()
        known["predictor"] = " + ".join(str(step.get("name", "")) for step in steps)
        scores = (regressor.get("scores") or {}).get("test")
        why_not = "the sweep had no test set with labels"
        if subjects is None:
            subjects = len(record.get("subjects", {}).get("test", ())) or None
    if scores is None or scores.get("ccc") is None:
        return Quality(**known, not_evaluated=why_not)
    ends = scores.get("ccc_ci")
    return Quality(
        **known,
        ccc=float(scores["ccc"]),
        ccc_ci=None if ends is None else (float(ends[0]), float(ends[1])),
        test_subjects=subjects,
        rmse=_rmse(scores.get("mse")),
    )


def _rmse(mse: float | None) -> float | None:
    """Compute the root of a mean square error; None without one, or if it is no finite number."""
    if mse is None or not 0 <= float(mse) < math.inf:
        return None
    return math.sqrt(float(mse))


def quality_of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about the training in the record of `model.json`, as fields of `Quality`."""
    corpus = record.get("corpus")
    subjects, recordings = record.get("subjects", {}), record.get("recordings", {})
    return {
        "corpus": name_of(corpus) if corpus else None,
        "synthetic": bool(record.get("synthetic", False)),
        "recordings": len(recordings["train"]) if "train" in recordings else None,
        "subjects": len(subjects["train"]) if "train" in subjects else None,
        "subjects_remark": str(record.get("subjects_remark") or ""),
    }


def _read(folder: Location, sha256: str) -> dict[str, Any] | str:
    """Read the evaluation of these weights, or return the reason why there is none."""
    file = folder / EVALUATION
    try:
        if not file.exists():
            return _REMEDY
        content = parse_json(read_at_most(file, _MOST_BYTES))
        digest = content.pop("digest")
        if content["format"] == _FORMAT and fingerprint(content) == digest:
            if content["model"] != sha256:
                return f"{EVALUATION} is of other weights than lie beside it; {_REMEDY}"
            for scores in content["test"].values():
                if scores is not None:
                    float(scores["ccc"]), int(scores["subjects"]), float(scores.get("mse", 0))
            return dict(content)
    except TooLargeError:
        return f"{EVALUATION} is larger than an evaluation can be; {_REMEDY}"
    except IsADirectoryError:
        return f"'{file}' is a folder and no evaluation: move it away; then {_REMEDY}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return f"{EVALUATION} is damaged, or of another version; {_REMEDY}"

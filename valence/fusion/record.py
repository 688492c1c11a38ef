"""Write what fusing did beside the labels of a corpus, and read how well its raters agree.

`metadata/fusion.json` holds the settings, the part of every rater and the agreement;
`metadata/agreement.csv` and `metadata/pairs.csv` hold the agreement as tables.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from valence.config import FuseConfig
from valence.errors import CorpusError
from valence.fusion.agreement import FIGURES, Agreement, mean_agreement
from valence.fusion.gold_standard import Fused, agreement_over
from valence.fusion.pairs import ccc, pairwise, pcc
from valence.provenance import versions
from valence.storage.kept_file import KeptFile
from valence.storage.location import Location
from valence.storage.manifest import Entry, Manifest, take_down

RECORD = "metadata/fusion.json"
AGREEMENT = "metadata/agreement.csv"
PAIRS = "metadata/pairs.csv"
_FORMAT = 1
_DIGITS = 6
_REMEDY = (
    "Run 'valence fuse' again with the same options, or delete the file: reports then do not state "
    "the raters' agreement."
)


def write_fusion(
    corpus: Location, found: Sequence[Fused], settings: FuseConfig, *, set_aside: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Write the record and the tables of a fused corpus whose labels are written.

    Parameters
    ----------
    corpus
        The folder of the corpus.
    found
        The fused curves, also those with a problem.
    settings
        The steps.
    set_aside
        What was set aside before fusing.

    Returns
    -------
    The agreement by target, as `read_agreement` returns it.
    """
    of_target: dict[str, list[Fused]] = defaultdict(list)
    for each in found:
        of_target[each.rated.target].append(each)
    agreement: dict[str, dict[str, Any]] = {
        target: _summary(of) for target, of in sorted(of_target.items()) if _usable(of)
    }
    _put(corpus / AGREEMENT, _table(_agreement_rows(found, of_target), _AGREEMENT_COLUMNS))
    _put(corpus / PAIRS, _table(_pair_rows(found), _PAIR_COLUMNS))
    labels = [
        f"label_segments/{target}/{file.name}"
        for target in agreement
        for file in (corpus / f"label_segments/{target}").files()
    ]
    recordings: dict[str, dict[str, Any]] = defaultdict(dict)
    for each in found:
        recordings[each.id][each.rated.target] = _recording(each)
    # The record comes last: what it says holds for the labels and tables that are there.
    (corpus / RECORD).write_json(
        {
            "format": _FORMAT,
            "settings": settings.model_dump(mode="json", exclude_none=True),
            "versions": versions(),
            "agreement": agreement,
            "set_aside": list(set_aside),
            "recordings": dict(recordings),
            "files": take_down(corpus, [AGREEMENT, PAIRS, *labels]).to_json(),
        }
    )
    return agreement


def read_agreement(corpus: Location) -> tuple[dict[str, dict[str, Any]] | None, str]:
    """Read how well the raters of a corpus agree.

    Returns
    -------
    For each target: `as_rated` (of `recordings_rated`) and `as_fused` (of `recordings`, those with
    a curve) by the keys of `Agreement.to_json`, `raters`, and `step` in seconds; None if the labels
    are not fused, or are not as they were fused. Beside it a remark in the second case, else `""`.

    Raises
    ------
    CorpusError
        If the record is damaged.
    """
    file = corpus / RECORD
    if not file.exists():
        return None, ""
    kept = KeptFile(file, "the record of fused raters", _REMEDY, error=CorpusError)
    record = kept.table({"format": int, "agreement": dict, "files": dict})
    try:
        manifest = Manifest({name: Entry(**entry) for name, entry in record["files"].items()})
    except TypeError as error:
        raise kept.damaged(f"its list of files is not as expected ({error})") from error
    wrong = manifest.amiss(corpus, content=True)
    if record["format"] != _FORMAT:
        return None, f"'{file}' is of another version, so the raters' agreement is not stated"
    if wrong:
        name, what = sorted(wrong.items())[0]
        return None, (
            f"'{corpus / name}' {what}, so the agreement of raters in '{file}' speaks of other "
            "labels and is not stated"
        )
    return dict(record["agreement"]), ""


def _put(file: Location, text: str) -> None:
    """Write a text unless it is there: the record holds the times of files."""
    if not file.exists() or file.read_bytes() != text.encode():
        file.write_text(text)


def _usable(found: Sequence[Fused]) -> list[Fused]:
    return [each for each in found if not each.problem]


def _summary(of: Sequence[Fused]) -> dict[str, Any]:
    usable = _usable(of)
    return {
        "recordings": len(usable),
        # Those that were set aside because raters disagree are a part of how well they agree.
        "recordings_rated": len(of),
        "raters": len({part.name for each in of for part in each.parts}),
        "step": of[0].rated.step,
        "as_rated": _rounded(agreement_over(of, as_rated=True)),
        "as_fused": _rounded(agreement_over(usable, as_rated=False)),
    }


def _recording(fused: Fused) -> dict[str, Any]:
    return {
        "step": fused.rated.step,
        "from": [file.uri for file in fused.rated.files],
        "raters": [part.to_json() for part in fused.parts],
        "as_rated": _rounded(fused.as_rated),
        "as_fused": _rounded(fused.as_fused),
        "problem": fused.problem,
        "remarks": list(fused.remarks),
    }


def _rounded(agreement: Agreement) -> dict[str, Any]:
    return {
        name: round(value, _DIGITS) if isinstance(value, float) else value
        for name, value in agreement.to_json().items()
    }


_AGREEMENT_COLUMNS = ("target", "of", "Id", "values", *FIGURES)


def _agreement_rows(
    found: Sequence[Fused], of_target: dict[str, list[Fused]]
) -> Iterable[tuple[Any, ...]]:
    """Give each recording's figures, then their mean, then those over all steps together.

    Rows of what was rated count all recordings, those of what was fused the ones with a curve.
    """
    for each in found:
        for values, figures in (("rated", each.as_rated), ("fused", each.as_fused)):
            if not each.problem or values == "rated":
                yield each.rated.target, "recording", each.id, values, *_cells(figures)
    for target, of in sorted(of_target.items()):
        usable = _usable(of)
        yield target, "mean", "", "rated", *_cells(mean_agreement([each.as_rated for each in of]))
        if usable:
            fused = mean_agreement([each.as_fused for each in usable])
            yield target, "mean", "", "fused", *_cells(fused)
        yield target, "all", "", "rated", *_cells(agreement_over(of, as_rated=True))
        if usable:
            yield target, "all", "", "fused", *_cells(agreement_over(usable, as_rated=False))


_PAIR_COLUMNS = ("target", "Id", "values", "rater", "other", "steps", "ccc", "pcc")


def _pair_rows(found: Sequence[Fused]) -> Iterable[tuple[Any, ...]]:
    for each in found:
        for values, ratings in (("rated", each.rated), ("fused", each.ratings)):
            if each.problem and values == "fused":
                continue
            for (a, b), moments in pairwise(ratings.values).items():
                scores = (_cell(ccc(moments)), _cell(pcc(moments)))
                names = (ratings.raters[a], ratings.raters[b])
                yield each.rated.target, each.id, values, *names, moments.n, *scores


def _cells(agreement: Agreement) -> list[Any]:
    return [_cell(getattr(agreement, name)) for name in FIGURES]


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else round(value, _DIGITS)


def _table(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()

"""Format numbers for readers: with a true minus sign, few digits and a unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from valence.storage.filenames import printable

MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with a fixed count of decimals; a dash if there is no number.

    >>> number(-0.12345), number(None), number(-0.0001)
    ('−0.123', '–', '0.000')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def interval(ends: Sequence[float] | None) -> str:
    """Format an interval in brackets; return `""` for None.

    >>> interval((0.1, 0.25))
    '[0.100, 0.250]'
    """
    return "" if ends is None else f"[{number(ends[0])}, {number(ends[1])}]"


def spread(mean: float, sd: float | None, digits: int = 2) -> str:
    """Format a mean, followed by its standard deviation if there is one.

    >>> spread(-0.12, 0.3), spread(0.5, None)
    ('−0.12 ± 0.30', '0.50')
    """
    return number(mean, digits) + ("" if sd is None else f" ± {number(sd, digits)}")


def count(value: float) -> str:
    """Format a whole number, with a narrow space between thousands.

    >>> count(1234567) == "1\\u202f234\\u202f567"
    True
    """
    return f"{round(value):,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Format a length of time in its two largest units.

    >>> duration(7.25), duration(83), duration(2700), duration(3700), duration(3600)
    ('7.2 s', '1 min 23 s', '45 min', '1 h 1 min', '1 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def plural(n: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun.

    >>> plural(1, "subject"), plural(3, "subject")
    ('1 subject', '3 subjects')
    """
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """End a text with one point, so that a sentence can follow.

    >>> sentence("it is empty"), sentence("It is empty. Restore it.")
    ('it is empty.', 'It is empty. Restore it.')
    """
    return f"{text.rstrip('.')}."


def raters_agree(agreement: Mapping[str, Any] | None, target: str) -> str:
    """Say how well the raters of a corpus agree on a target; `""` if that is not known.

    Parameters
    ----------
    agreement
        `valence.fusion.record.read_agreement`, kept in the records of a run and of a model.
    target
        The target.

    >>> figures = {"ccc": 0.4, "ccc_others": 0.5}
    >>> known = {"raters": 6, "step": 0.25, "recordings": 3, "recordings_rated": 4}
    >>> known |= {"as_rated": figures, "as_fused": figures}
    >>> print(raters_agree({"valence": known}, "valence")[:67])
    Raters of valence agree at CCC 0.400 in pairs as they rated (6 rate
    """
    of = (agreement or {}).get(target)
    if of is None:
        return ""
    rated, fused = of["as_rated"], of["as_fused"]
    if rated["ccc"] is None:
        return (
            f"Nothing shows how well raters of {target} agree ({plural(of['raters'], 'rater')}, "
            f"{plural(of['recordings_rated'], 'recording')}): no two vary in the same steps."
        )
    return (
        f"Raters of {target} agree at CCC {number(rated['ccc'])} in pairs as they rated "
        f"({plural(of['raters'], 'rater')}, steps of {of['step']:g} s, "
        f"{plural(of['recordings_rated'], 'recording')}), and at {number(fused['ccc'])} after the "
        f"steps that precede fusing ({plural(of['recordings'], 'recording')}). "
        f"A rater and the mean of the others agree at {number(rated['ccc_others'])} and "
        f"{number(fused['ccc_others'])}."
    )


MOST_NAMES = 10


def some(names: Sequence[str]) -> str:
    """Quote the first names, and say how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(f"'{printable(name)}'" for name in names[:MOST_NAMES]) + more


# The remark on unknown subjects begins with these words. Runs and models store the remark.
UNKNOWN = "subjects are unknown"
UNKNOWN_IN_PART = "subjects are unknown in part"


@dataclass(frozen=True)
class Unit:
    """The unit that an interval or a verdict counts, such as subjects.

    Attributes
    ----------
    one
        The noun for one unit.
    note
        A reservation about the units that a reader must know, or `""`.
    """

    one: str = "subject"
    note: str = ""

    @property
    def many(self) -> str:
        """Return the noun for several units, with the note.

        >>> Unit().many, Unit("recording", "subjects unknown").many
        ('subjects', 'recordings (subjects unknown)')
        """
        return f"{self.one}s{self._aside}"

    @property
    def over(self) -> str:
        """Return ` over ...` to follow the word "interval"; `""` for known subjects."""
        return f" over {self.many}" if self.note else ""

    def count(self, n: int) -> str:
        """Format a number of units, with the note.

        >>> Unit().count(1), Unit("recording", "subjects unknown").count(3)
        ('1 subject', '3 recordings (subjects unknown)')
        """
        return f"{plural(n, self.one)}{self._aside}"

    @property
    def _aside(self) -> str:
        return f" ({self.note})" if self.note else ""


SUBJECTS = Unit()


def unit_of(remark: str | None) -> Unit:
    """Choose the unit to count, given the remark on the subjects of a corpus.

    Parameters
    ----------
    remark
        `valence.corpus.muse.Corpus.subjects_remark`; empty or None if all subjects are known.

    >>> unit_of("subjects are unknown: nobody says who speaks").many
    'recordings (subjects unknown)'
    """
    if not remark:
        return SUBJECTS
    if remark.startswith(UNKNOWN_IN_PART):
        return Unit("subject", "unknown in part")
    return Unit("recording", "subjects unknown")

from __future__ import annotations

import pytest

from valence.corpus.subjects import RULES, known_corpus, subjects_by_rule
from valence.errors import ConfigError


@pytest.mark.parametrize(
    ("rule", "name", "subject"),
    [
        ("emodb", "03a01Fa", "03"),
        ("emodb", "16b10Wb", "16"),
        ("ravdess", "03-01-06-01-02-01-12", "12"),
        ("crema-d", "1001_DFA_ANG_XX", "1001"),
        ("crema-d", "1091_IEO_HAP_HI", "1091"),
        ("crema-d", "1076_MTI_SAD_X", "1076"),
        ("msp-improv", "MSP-IMPROV-S01A-F01-P-FM01", "F01"),
        ("msp-improv", "UTD-IMPROV-S20S-M06-T-MF12", "M06"),
        (r"(anna|zoe)_\d+", "zoe_12", "zoe"),
    ],
)
def test_a_rule_finds_who_speaks(rule: str, name: str, subject: str) -> None:
    assert subjects_by_rule([name], rule) == {name: subject}
    assert known_corpus([name]) == (rule if rule in RULES else None)


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("emodb", r"finds no subject in 2 of 3 Ids \('1', '2'\)"),
        ("emoDB", "has 0 groups"),
        ("(a", "is no regular expression"),
        (r"(\d)(.*)", "has 2 groups"),
        (r"(\d*)a?.*[a-z]?", None),
        (r"(x?).*", "finds no subject in 3 of 3 Ids"),
        ("msp-podcast", "has 0 groups"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule: str, found: str | None) -> None:
    names = ["1", "2", "03a01Fa"]
    if found is None:
        assert subjects_by_rule(names, rule) == {"1": "1", "2": "2", "03a01Fa": "03"}
        return
    with pytest.raises(ConfigError, match=found) as raised:
        subjects_by_rule(names, rule)
    assert f"corpus.subjects = '{rule}'" in str(raised.value)


def test_a_corpus_is_known_by_most_of_its_ids() -> None:
    assert known_corpus(["03a01Fa", "08a02Na", "x"]) == "emodb"
    assert known_corpus(["03a01Fa", "x"]) is None
    assert known_corpus([]) is None

from __future__ import annotations

import pytest

from valence.provenance import difference, fingerprint


def test_a_fingerprint_is_of_the_content() -> None:
    # printf '{"a":[1,2],"b":{"c":null}}' | sha256sum
    found = fingerprint({"b": {"c": None}, "a": [1, 2]})
    assert found == "c86ec83bbcf2cd79e5cc99ee36d5726e7f66bcc6f7b8b83d0b5e6e53ce6302d6"
    assert found == fingerprint({"a": (1, 2), "b": {"c": None}})
    assert found != fingerprint({"a": [2, 1], "b": {"c": None}})
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"a": float("nan")})


def test_differences_are_told_by_their_path_and_not_without_end() -> None:
    old = {"a": {"b": {"c": 1}, "same": 0}, "gone": 2}
    assert difference(old, {"a": {"b": {"c": 3}, "same": 0}, "new": "x"}) == (
        "a.b.c is 1 there and 3 here; gone is 2 there and absent here; "
        "new is absent there and x here"
    )
    many = {str(i): i for i in range(9)}
    assert difference({}, many, most=2).endswith("; and 7 more")
    assert difference(old, old) == ""

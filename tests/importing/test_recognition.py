"""Forms that a folder is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import made_corpora as made
from valence.errors import UsageError
from valence.importing.recognition import choose_declaration, fitting_forms
from valence.storage.location import Location


@pytest.mark.parametrize(("form", "make"), [*made.FORMS.items(), *made.RATED.items()])
def test_each_made_corpus_fits_its_form_and_no_other(form: str, make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path)
    assert [each.name for each in fitting_forms(Location.parse(tmp_path))] == [form]


def test_one_damaged_file_does_not_hide_a_form(tmp_path: Path) -> None:
    made.sewa(tmp_path)
    (tmp_path / "labels/Devel_HU_01.csv").write_bytes(b"\x00\x01")
    assert [each.name for each in fitting_forms(Location.parse(tmp_path))] == ["sewa"]


def test_no_more_files_are_looked_at_than_said(tmp_path: Path) -> None:
    made.sewa(tmp_path)
    assert fitting_forms(Location.parse(tmp_path), most=1) == ()


def test_a_layout_that_needs_no_import_fits_no_form(tmp_path: Path) -> None:
    made.write_audio(tmp_path / "raw_data/audio/1.wav")
    made.write_text(tmp_path / "label_segments/valence/1.csv", "timestamp,value", "0,0.1", "500,0")
    assert fitting_forms(Location.parse(tmp_path)) == ()
    with pytest.raises(UsageError, match="is in the MuSe layout already"):
        choose_declaration(Location.parse(tmp_path), None)
    with pytest.raises(UsageError, match="is in none of the forms that are known"):
        choose_declaration(Location.parse(tmp_path / "raw_data"), None)


def test_the_named_form_is_taken_without_a_look(tmp_path: Path) -> None:
    chosen = choose_declaration(Location.parse(tmp_path), "sewa", ("labels.delay=1",))
    assert chosen.name == "sewa"
    assert chosen.labels[0].delay == 1


def test_a_second_form_is_found_behind_many_files_of_the_first(tmp_path: Path) -> None:
    """MuSe-Toolbox keeps raw ratings and its results in one folder, all as `<target>/<Id>.csv`."""
    made.muse_toolbox(tmp_path, ids=[str(number) for number in range(5)])
    made.muse_raw(tmp_path, ids=("x",))
    found = [each.name for each in fitting_forms(Location.parse(tmp_path))]
    assert found == ["muse-raw", "muse-toolbox"]
    with pytest.raises(UsageError, match=r"can be read in 2 forms: muse-raw .*; muse-toolbox"):
        choose_declaration(Location.parse(tmp_path), None)

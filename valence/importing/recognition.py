"""Find the shipped forms that a folder is in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from valence.errors import CorpusError, UsageError
from valence.importing.declaration import (
    Declaration,
    LabelsForm,
    load_declaration,
    shipped_declarations,
)
from valence.importing.readers.audformat import is_audformat
from valence.importing.readers.nova import is_nova
from valence.importing.readers.table import header_fits
from valence.importing.sources.patterns import Tree, list_tree
from valence.importing.traces import label_files
from valence.storage.location import Location

# A form is recognised by the first files; a single one may be damaged. Folders may hold files of
# several forms, so the first file of each further folder is looked at too.
_FIRST_FILES = 3
_MOST_FILES = 24


def fitting_forms(source: Location, *, most: int | None = None) -> tuple[Declaration, ...]:
    """Find the shipped forms whose files a folder holds.

    A form fits if one of its first files, or the first one of a folder, has the path, the columns,
    the head and the step that the form names.

    Parameters
    ----------
    source
        The folder.
    most
        The number of files that are looked at; None for all.

    Raises
    ------
    CorpusError
        If the folder is absent or cannot be listed.
    """
    tree = list_tree(source, most=most)
    return tuple(each for each in shipped_declarations() if _fits(tree, each))


def choose_declaration(
    source: Location, form: str | None, assignments: tuple[str, ...] = ()
) -> Declaration:
    """Choose the declaration of a source: the named one, or the only one that fits.

    Parameters
    ----------
    source
        The folder.
    form
        Name of a shipped form or path of a TOML file; None if the form is to be found.
    assignments
        Values that override the declaration's.

    Raises
    ------
    UsageError
        If no form is named, and no shipped form fits or several do.
    """
    if form is not None:
        return load_declaration(form, assignments)
    if (source / "raw_data/audio").is_folder():
        raise UsageError(
            f"'{source}' has the folder raw_data/audio, so it is in the MuSe layout already. "
            "Expected a corpus in another form; use it as it is (valence check), or name its form "
            "(--form)."
        )
    fitting = fitting_forms(source)
    if len(fitting) == 1:
        return load_declaration(fitting[0].name, assignments)
    if fitting:
        shown = "; ".join(f"{each.name} ({each.title})" for each in fitting)
        raise UsageError(
            f"'{source}' can be read in {len(fitting)} forms: {shown}. Expected one; name the one "
            f"that is meant (--form {fitting[0].name})."
        )
    names = ", ".join(each.name for each in shipped_declarations())
    raise UsageError(
        f"'{source}' is in none of the forms that are known: {names}. Expected one of them; give "
        "the folder that holds the labels, name the form (--form) to see what differs, or declare "
        "your own (--form FILE.toml, docs/importing.md)."
    )


def _fits(tree: Tree, declaration: Declaration) -> bool:
    try:
        return any(_group_fits(tree, form) for form in declaration.labels)
    except CorpusError:
        return False


def _first_files(
    files: Iterable[tuple[Location, Mapping[str, str]]],
) -> Iterator[tuple[Location, Mapping[str, str]]]:
    """Take the first files, and the first one of each further folder."""
    seen: set[Location] = set()
    for number, (file, fields) in enumerate(files):
        if number < _FIRST_FILES or file.parent not in seen:
            yield file, fields
        seen.add(file.parent)


def _group_fits(tree: Tree, form: LabelsForm) -> bool:
    for file, fields in islice(_first_files(label_files(tree, form)), _MOST_FILES):
        match form.reader:
            case "nova":
                fits = is_nova(file)
            case "audformat":
                fits = is_audformat(file)
            case "table" | "lines" | "arff":
                fits = header_fits(file, fields, form)
        if fits:
            return True
    return False

"""Read what a source says of its recordings: a part of their Ids, or a column of a table."""

from __future__ import annotations

from collections.abc import Mapping

from valence.corpus.csv_tables import is_missing
from valence.corpus.muse import PARTITION_WORDS, Partition
from valence.errors import CorpusError
from valence.importing.declaration import Lookup, PartitionForm
from valence.importing.readers.columns import read_named_table
from valence.importing.sources.patterns import Tree, fill
from valence.storage.filenames import bare, normal


def read_partition(
    tree: Tree,
    form: PartitionForm | None,
    parts: Mapping[str, Mapping[str, str]],
    remarks: list[str],
) -> dict[str, Partition]:
    """Read the partition of each recording; the parameters are those of `read_property`.

    Raises
    ------
    CorpusError
        If a word is no partition, or for the reasons of `read_property`.
    """
    if form is None:
        return {}
    words = {**PARTITION_WORDS, **{word.casefold(): each for word, each in form.words.items()}}
    partition = {}
    for recording, text in read_property(tree, form, "partition", parts, remarks).items():
        known = words.get(text.casefold())
        if known is None:
            where = f" by '{form.file}'" if form.file else ""
            raise CorpusError(
                f"'{tree.root}': recording '{recording}' is given the partition '{text}'{where}. "
                "Expected train, devel or test; name the word in a declaration (partition.words)."
            )
        partition[recording] = known
    return partition


def read_property(
    tree: Tree,
    lookup: Lookup | None,
    what: str,
    parts: Mapping[str, Mapping[str, str]],
    remarks: list[str],
) -> dict[str, str]:
    """Read a property of recordings, from their Ids or from a table.

    Parameters
    ----------
    tree
        The files of the source.
    lookup
        Where the property stands; None if the source does not say it.
    what
        The property, for messages.
    parts
        The named parts of each Id and of the path of its labels.
    remarks
        Gets a remark if the table is absent.

    Returns
    -------
    The property by Id; recordings without it are left out.

    Raises
    ------
    CorpusError
        If the table cannot be read, or gives a recording two values.
    """
    if lookup is None:
        return {}
    if lookup.template is not None:
        values = {each: fill(lookup.template, of) for each, of in parts.items()}
    else:
        table = read_lookup(tree, lookup)
        if table is None:
            remarks.append(
                f"'{tree.root}' has no table '{lookup.file}', so the {what} of each recording is "
                "not known"
            )
            return {}
        keys = {each: fill(lookup.key, of) for each, of in parts.items()}
        values = {each: table.get(normal(bare(key))) for each, key in keys.items() if key}
    return {
        each: normal(value)
        for each, value in values.items()
        if value and not is_missing(value) and value not in lookup.unknown
    }


def read_lookup(tree: Tree, lookup: Lookup) -> dict[str, str] | None:
    """Read a table that gives a value for each key; None if the table is absent.

    Raises
    ------
    CorpusError
        If two files may be the table, it cannot be read, or a key has two values.
    """
    assert lookup.file is not None
    assert lookup.id is not None
    assert lookup.value is not None
    files = [file for file, _ in tree.matches(lookup.file)]
    if not files:
        return None
    if len(files) > 1:
        raise CorpusError(
            f"'{files[0]}' and '{files[1]}' both fit '{lookup.file}'. Expected one such table; "
            "remove the other, or name its path in a declaration."
        )
    table = read_named_table(files[0], lookup)
    names = [lookup.value] if isinstance(lookup.value, str) else lookup.value
    title = next((name for name in names if table.find(name) is not None), names[0])
    key, value = table.column(lookup.id), table.column(title)
    known: dict[str, str] = {}
    for line, cells in table.rows:
        name, text = normal(bare(table.text(cells, key))), table.text(cells, value)
        if known.setdefault(name, text) != text:
            raise CorpusError(
                f"'{files[0]}', line {line}: '{name}' has the {title} '{text}', and "
                f"'{known[name]}' in a line before. Expected one; correct that line."
            )
    return known

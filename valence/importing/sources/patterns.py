"""Match paths with patterns that name their parts, such as `ratings/{target}/{id}.csv`.

A pattern is a path with `/` between folders. `{name}` stands for a part of a folder's or file's
name, `{name:expression}` for a part that a regular expression matches, `*` for any text in a name,
and `**` for any folders. Capital and small letters count as equal.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from pyarrow import fs

from valence.errors import ConfigError, CorpusError
from valence.storage.filenames import is_utf8, normal
from valence.storage.location import Location

# Archives that were packed on a Mac carry a second tree of files that are no recordings.
_NOT_CONTENT = ("__MACOSX",)
_PIECE = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})+))?\}|(\*\*/)|(\*)")


@dataclass(frozen=True)
class Tree:
    """The files below a folder.

    Attributes
    ----------
    root
        The folder.
    paths
        Paths of the files below it, with `/` between folders, in order.
    """

    root: Location
    paths: tuple[str, ...]

    def matches(self, pattern: str) -> Iterator[tuple[Location, dict[str, str]]]:
        """Find the files that match a pattern, each with the named parts of its path."""
        compiled = compile_pattern(pattern)
        for path in self.paths:
            if found := compiled.fullmatch(normal(path)):
                yield self.root / path, found.groupdict()


def list_tree(root: Location, *, most: int | None = None, holds: str = "labels") -> Tree:
    """List the files below a folder, without hidden ones and without names that are not UTF-8.

    Parameters
    ----------
    root
        The folder.
    most
        The number of files at which the listing ends; None if it has no end.
    holds
        The content of the folder, for messages.

    Raises
    ------
    CorpusError
        If the folder is absent, is a file, or cannot be listed.
    """
    if not root.is_folder():
        found = "it is a file" if root.exists() else "there is no such folder"
        raise CorpusError(
            f"'{root}' cannot be imported: {found}. Expected the folder of a corpus; give the "
            f"folder that holds its {holds}."
        )
    try:
        walk = _walk_local(root) if root.local is not None else _walk_remote(root)
        paths = list(islice(walk, most))
    except OSError as error:
        raise CorpusError(
            f"'{root}' cannot be listed: {error}. Check the address and that you may read it."
        ) from error
    shown = (path for path in paths if is_utf8(path) and not _is_hidden(path))
    return Tree(root, tuple(sorted(shown)))


def _walk_local(root: Location) -> Iterator[str]:
    assert root.local is not None
    for folder, folders, names in os.walk(root.local, followlinks=False, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(folder, root.local)
        for name in names:
            yield name if below == "." else f"{below}/{name}"


def _raise(error: OSError) -> None:
    raise error


def _walk_remote(root: Location) -> Iterator[str]:
    for info in root.filesystem.get_file_info(fs.FileSelector(root.path, recursive=True)):
        if info.type == fs.FileType.File:
            yield info.path[len(root.path) + 1 :]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part in _NOT_CONTENT for part in path.split("/"))


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Turn a pattern of a path into a regular expression.

    Raises
    ------
    ConfigError
        If the regular expression of a named part is none.

    >>> compile_pattern("**/{target}/{id}.csv").fullmatch("a/b/valence/3.csv").groupdict()
    {'target': 'valence', 'id': '3'}
    """
    done, pieces, named = 0, [], set()
    for piece in _PIECE.finditer(pattern):
        pieces.append(re.escape(pattern[done : piece.start()]))
        name, expression, folders, _ = piece.groups()
        if folders:
            pieces.append("(?:.*/)?")
        elif name in named:
            pieces.append(f"(?P={name})")
        elif name:
            named.add(name)
            pieces.append(f"(?P<{name}>{expression or '[^/]+'})")
        else:
            pieces.append("[^/]*")
        done = piece.end()
    pieces.append(re.escape(pattern[done:]))
    try:
        return re.compile("".join(pieces), re.IGNORECASE)
    except re.error as cause:
        raise ConfigError(
            f"The pattern '{pattern}' holds no regular expression that can be read: {cause}. "
            "Expected a path such as 'ratings/{target}/{id}.csv'; correct the declaration."
        ) from cause


def names_in(template: str) -> list[str]:
    """List the names that a template takes.

    >>> names_in("{video}_{utterance}")
    ['video', 'utterance']
    """
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def require_template(template: str) -> str:
    """Refuse a template that cannot be filled in.

    Raises
    ------
    ValueError
        If its braces are no pairs, or hold something else than a name.

    >>> require_template("{video}_{utterance}")
    '{video}_{utterance}'
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as cause:
        raise ValueError(f"'{template}' cannot be filled in: {cause}") from cause
    for _, name, form, conversion in pieces:
        # Python would take numbers for places, and points and brackets for parts of a value.
        no_name = name is not None and (not name or name.isdecimal() or set(name) & set(".[]"))
        if no_name or form or conversion:
            raise ValueError(
                f"'{template}' cannot be filled in: braces hold the name of a part or a column, "
                "such as {id}"
            )
    return template


def fill(template: str, fields: Mapping[str, str]) -> str | None:
    """Fill in a template; None if a field is absent or empty.

    >>> fill("{video}_{utterance}", {"video": "a", "utterance": "1"})
    'a_1'
    """
    if not all(fields.get(name) for name in names_in(template)):
        return None
    return template.format_map(fields)


def first_matching(
    tree: Tree, patterns: Sequence[str]
) -> Iterator[tuple[Location, dict[str, str]]]:
    """Find the files that match one of several patterns.

    Raises
    ------
    CorpusError
        If a file matches two patterns that name different parts of its path.
    """
    seen: dict[Location, tuple[str, dict[str, str]]] = {}
    for pattern in patterns:
        for file, fields in tree.matches(pattern):
            before, known = seen.setdefault(file, (pattern, fields))
            if known != fields:
                raise CorpusError(
                    f"'{file}' fits '{before}' and '{pattern}', which read its path in two ways. "
                    "Expected one; give a declaration of your own with one pattern (--form "
                    "FILE.toml)."
                )
    for file in sorted(seen, key=lambda file: file.path):
        yield file, seen[file][1]

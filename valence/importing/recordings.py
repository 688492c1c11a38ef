"""Find the sound, the subject and the partition of each recording of a source."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from valence.corpus.muse import Partition
from valence.importing.declaration import Declaration
from valence.storage.location import Location


@dataclass(frozen=True)
class Sound:
    """A stretch of an audio file.

    Attributes
    ----------
    file
        The audio file.
    start, end
        Seconds; None for the end of the file.
    channel
        The number of the channel, from 0; None for all channels.
    """

    file: Location
    start: float = 0.0
    end: float | None = None
    channel: int | None = None


@dataclass(frozen=True)
class SourceRecording:
    """A recording of a source in another form.

    Attributes
    ----------
    id
        Its Id in the corpus that is made.
    sounds
        The stretches of sound that follow each other in it; mostly a single whole file.
    subject
        The person who speaks, or None if the source does not say so.
    partition
        The partition, or None if the source names none.
    """

    id: str
    sounds: tuple[Sound, ...]
    subject: str | None = None
    partition: Partition | None = None


def find_recordings(
    source: Location, declaration: Declaration, ids: Collection[str]
) -> dict[str, SourceRecording]:
    """Find the recordings that labels name, by Id; an Id without sound is left out.

    Raises
    ------
    CorpusError
        If no Id has sound, or a table of the source cannot be read as declared.
    """
    raise NotImplementedError((source, declaration, ids))

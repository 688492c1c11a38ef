"""Names of recordings as people and file systems write them, brought to one form to compare."""

from __future__ import annotations

import unicodedata

# Endings that a table may have behind an Id; some are no audio that this program decodes.
_ENDINGS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"),
    *(".m4a", ".aac", ".mp4", ".webm", ".wma", ".amr", ".3gp", ".mka", ".avi", ".csv"),
)


def normal(name: str) -> str:
    """Bring a name to Unicode's composed form (NFC).

    File systems and programs write an accent as part of its letter or as a character of its own;
    both look the same, and both name the same recording.

    >>> normal("Zoe\\u0308") == normal("Zo\\u00eb")
    True
    """
    return unicodedata.normalize("NFC", name)


def bare(name: str) -> str:
    """Take folders and the ending of an audio file from a name.

    >>> bare("audio/03.WAV"), bare("talk.2")
    ('03', 'talk.2')
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    ending = next((each for each in _ENDINGS if name.lower().endswith(each)), "")
    return name[: len(name) - len(ending)]

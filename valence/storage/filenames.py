"""Handle file names that some programs cannot show, pass on or store in full."""

from __future__ import annotations

import hashlib
import unicodedata

# Bytes of a file name on the usual file systems (ext4, XFS, APFS, NTFS, NFS).
MOST_BYTES = 255
# Hexadecimal digits that tell shortened names apart.
_DIGITS = 12
# These are invisible, but parts of words and emoji in many scripts, so they are kept.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Write escapes for characters that a terminal or table cannot hold.

    These are undecodable bytes and control characters: controls, line ends, changes of the writing
    direction.

    >>> printable("caf\udce9"), printable("a\nb"), printable("été 1")
    ('caf\\xe9', 'a\\nb', 'été 1')
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    code = ord(character)
    # Python represents undecodable bytes of a name by these characters (PEP 383).
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character in _JOINERS:
        return character
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode()
    return character


def is_utf8(text: str) -> bool:
    r"""Tell whether a name is text, so that tables, JSON and object stores can hold it.

    >>> is_utf8("été"), is_utf8("caf\udce9")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def begin(text: str, most: int) -> str:
    """Cut a name to at most `most` bytes of UTF-8, between characters.

    >>> begin("éééé", 5)
    'éé'
    """
    return text.encode(errors="surrogateescape")[:most].decode(errors="ignore")


def shortened(name: str, *, suffix_bytes: int) -> str:
    """Shorten a name so that a suffix fits after it; a name that is short enough stays unchanged.

    Parameters
    ----------
    name
        The name without the suffix.
    suffix_bytes
        Size of the longest suffix in bytes.

    Returns
    -------
    The name; or its beginning, `~` and 12 digits of a hash of the whole name.

    >>> shortened("talk", suffix_bytes=8), len(shortened("a" * 251, suffix_bytes=8))
    ('talk', 247)
    """
    room = MOST_BYTES - suffix_bytes
    if len(name.encode(errors="surrogateescape")) <= room:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
    return f"{begin(name, room - _DIGITS - 1)}~{digest}"


# Endings that an Id may have in a table; this program cannot decode some of these formats.
_ENDINGS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"),
    *(".m4a", ".aac", ".mp4", ".webm", ".wma", ".amr", ".3gp", ".mka", ".avi", ".csv"),
)


def normal(name: str) -> str:
    """Bring a name to Unicode's composed form (NFC).

    File systems and programs write an accent as part of its letter or as a character of its own.
    Both forms look the same and name the same recording.

    >>> normal("Zoe\\u0308") == normal("Zo\\u00eb")
    True
    """
    return unicodedata.normalize("NFC", name)


def bare(name: str) -> str:
    """Remove folders and the ending of an audio file from a name.

    >>> bare("audio/03.WAV"), bare("talk.2")
    ('03', 'talk.2')
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    ending = next((each for each in _ENDINGS if name.lower().endswith(each)), "")
    return name[: len(name) - len(ending)]

"""Whether a ZIP archive unpacks to no more than its own size.

`torch.save` and skops write archives in which nothing is compressed. An archive of another kind was
not written by this program, and may unpack to a thousand times its size.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

# A million arrays take a forest of 300,000 trees. The directory of an archive is read whole.
_MOST_MEMBERS = 1_000_000
_DIRECTORY_ENTRY = b"PK\x01\x02"


def member_sizes(content: bytes) -> Mapping[str, int]:
    """Check an archive by its directory, before anything in it is unpacked.

    Parameters
    ----------
    content
        The whole archive.

    Returns
    -------
    The bytes of each member, by name.

    Raises
    ------
    ValueError
        If it is no archive, a member is compressed, encrypted or named twice, or the members hold
        more than the archive has. The message completes "the file ...".
    """
    if content.count(_DIRECTORY_ENTRY) > _MOST_MEMBERS:
        raise ValueError(f"holds more than {_MOST_MEMBERS:,} members")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise ValueError(f"is no ZIP archive that can be read: {error}") from error
    sizes: dict[str, int] = {}
    for member in members:
        if member.filename in sizes:
            raise ValueError(f"holds '{member.filename}' twice")
        if member.flag_bits & 1:
            raise ValueError(f"holds '{member.filename}' encrypted")
        sizes[member.filename] = member.file_size
    unpacked = sum(sizes.values())
    if unpacked > len(content):
        raise ValueError(f"is of {len(content):,} bytes and unpacks to {unpacked:,} bytes")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("holds compressed data")
    return sizes

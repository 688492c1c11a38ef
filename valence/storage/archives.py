"""Check that a ZIP archive unpacks to no more than its own size.

`torch.save` and skops write archives without compression. Another kind of archive does not come
from this program, and may unpack to a thousand times its size.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

# The directory of an archive is read as a whole, so the number of members is limited. A forest of
# 300,000 trees has about a million arrays.
_MOST_MEMBERS = 1_000_000
_DIRECTORY_ENTRY = b"PK\x01\x02"


def member_sizes(content: bytes) -> Mapping[str, int]:
    """Check an archive by its directory, and give the sizes of its members without unpacking.

    Parameters
    ----------
    content
        The whole archive.

    Returns
    -------
    Size of each member in bytes, by name.

    Raises
    ------
    ValueError
        If the content is no archive, if a member is compressed, encrypted or occurs twice, or if
        the members together are larger than the archive. The message completes "the file ...".
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

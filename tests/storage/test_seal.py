"""Sealed Parquet files: flipped bits and cuts are noticed, and other programs read them."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from valence.storage.seal import SealedWriter, SealError, open_sealed, read_sealed, write_sealed


def _table(rows: int) -> pa.Table:
    rng = np.random.default_rng(rows)
    mel = pa.py_buffer(rng.bytes(500 * rows))
    columns = {
        "recording": pa.array(["a"] * rows),
        "value": pa.array(rng.random(rows)),
        "mel": pa.FixedSizeBinaryArray.from_buffers(pa.binary(500), rows, [None, mel]),
    }
    return pa.table(columns).replace_schema_metadata({"of": "tests"})


def _sealed(table: pa.Table, *, groups: int = 1) -> bytes:
    """The bytes of a sealed file of several row groups."""
    target = io.BytesIO()
    writer = SealedWriter(target, table.schema, compression="none")
    size = -(-len(table) // groups)
    for group in range(groups):
        writer.write(table.slice(group * size, size))
    digest = writer.close({"more": "metadata"})
    assert hashlib.sha256(target.getvalue()).hexdigest() == digest
    return target.getvalue()


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_what_is_written_is_read_by_all(rows: int) -> None:
    table, target = _table(rows), io.BytesIO()
    write_sealed(target, table)
    content = target.getvalue()
    assert read_sealed(io.BytesIO(content)).equals(table)
    assert pq.read_table(io.BytesIO(content), page_checksum_verification=True).equals(table)


def test_every_flipped_bit_is_noticed() -> None:
    """In values, page headers, seal, footer and magic; all of the last 200 bytes are tried."""
    content = _sealed(_table(300), groups=3)
    rng = np.random.default_rng(1)
    bits = set(rng.choice(8 * len(content), 600, replace=False).tolist())
    bits |= set(range(8 * len(content) - 1600, 8 * len(content))) | set(range(32))
    for bit in sorted(bits):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            read_sealed(io.BytesIO(bytes(flipped)))


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.7, 0.99, 0.9999])
def test_every_cut_is_noticed(share: float) -> None:
    content = _sealed(_table(300))
    with pytest.raises(SealError):
        read_sealed(io.BytesIO(content[: int(share * len(content))]))


def test_what_is_not_read_is_not_checked() -> None:
    """A row group is read, and checked, without the others."""
    table = _table(1200)
    content = bytearray(_sealed(table, groups=2))
    assert len(content) > 4 * 2**16
    content[-3 * 2**16] ^= 1
    file = open_sealed(io.BytesIO(bytes(content)))
    assert file.read_row_group(0).equals(table.slice(0, 600))
    with pytest.raises(SealError, match="its bytes from"):
        file.read_row_group(1)


def test_a_file_of_an_older_version_is_read_as_it_is() -> None:
    table, target = _table(9), io.BytesIO()
    pq.write_table(table, target)
    assert read_sealed(io.BytesIO(target.getvalue())).equals(table)
    with pytest.raises(SealError, match="no Parquet file"):
        read_sealed(io.BytesIO(b"anything but Parquet"))

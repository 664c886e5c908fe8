"""Puts an entry into the datastore of a Kubo that is stopped: into LevelDB's log, which Kubo reads at its start.

A log is blocks of 32 KiB with records that do not cross them:

    record { masked CRC-32C (4), length (2), type: 1 whole (1), batch }     integers are little endian
    batch  { sequence number (8), count (4), [ 1: put (1), key, value ] }   strings come behind their varint length

Spec: https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from pathlib import Path
from typing import Final

from ipvcs.multiformats import varint

_BLOCK: Final = 32 * 1024
_WHOLE: Final = 1
_PUT: Final = 1
_CASTAGNOLI: Final = 0x82F63B78  # reversed, as CRC-32C goes from the low bit on
_MASK: Final = 0xA282EAD8
_SEQUENCE: Final = 1 << 32
"""Later than whatever Kubo wrote: a smaller number would be taken for damage."""


def put(repo: Path, key: bytes, value: bytes) -> None:
    """Store `value` under `key` in the repository `repo`, some hundred bytes at most, and once in its life."""
    log = max((repo / "datastore").glob("*.log"), key=lambda path: int(path.stem))
    batch = _SEQUENCE.to_bytes(8, "little") + (1).to_bytes(4, "little") + bytes([_PUT])
    batch += varint.encode(len(key)) + key + varint.encode(len(value)) + value
    record = _masked(_crc32c(bytes([_WHOLE]) + batch)).to_bytes(4, "little")
    record += len(batch).to_bytes(2, "little") + bytes([_WHOLE]) + batch
    assert log.stat().st_size % _BLOCK + len(record) <= _BLOCK, "the log of a new repository has a kilobyte"
    with log.open("ab") as file:
        file.write(record)


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CASTAGNOLI if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """Return the CRC as LevelDB stores it, so that a CRC of data that holds CRCs says something."""
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF

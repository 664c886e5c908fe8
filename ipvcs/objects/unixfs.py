"""UnixFS: the message in a dag-pb node's data that makes it a file, directory or symlink.

Spec: https://specs.ipfs.tech/unixfs/
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats import multihash
from ipvcs.objects.protobuf import FIXED32, VARINT, ProtobufError, decode_varint, encode_varint, iter_fields, read_field

MAX_FANOUT: Final = 1024
"""The widest HAMT shard that Kubo reads; wider ones are refused before anything is allocated for them."""
MODE_MASK: Final = 0o7777
MURMUR3: Final = multihash.MURMUR3_X64_64
"""The one hash function of HAMT directories."""
_NANOS_PER_SECOND: Final = 1_000_000_000


class UnixfsError(DecodeError):
    """A node's data is not UnixFS."""


class DataType(IntEnum):
    """What a node is; RAW is only ever a leaf of a file, METADATA is historical."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


@dataclass(frozen=True, slots=True)
class Mtime:
    """A modification time: seconds since 1970, may be negative, and 0 to 999,999,999 nanoseconds after that."""

    seconds: int
    nanoseconds: int = 0


@dataclass(frozen=True, slots=True)
class UnixfsData:
    """One UnixFS `Data` message. None and () are absent.

    `filesize` and `blocksizes` are in bytes and untrusted until the bytes have been read.
    """

    type: DataType
    data: bytes | None = None
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None
    mode: int | None = None
    mtime: Mtime | None = None


EMPTY_DIRECTORY: Final = b"\x08\x01"
"""The encoded data of every plain directory."""


def encode(message: UnixfsData) -> bytes:
    """Return the bytes of `message`, fields in number order, only those present.

    `mode` is cut to its low 12 bits; mode 0 counts as absent.
    """
    parts = [b"\x08", encode_varint(message.type)]
    if message.data is not None:
        parts += (b"\x12", encode_varint(len(message.data)), message.data)
    if message.filesize is not None:
        parts += (b"\x18", encode_varint(message.filesize))
    previous = -1
    for size in message.blocksizes:
        if size != previous:  # all but the last are the same, as a rule
            previous, encoded = size, b"\x20" + encode_varint(size)
        parts.append(encoded)
    if message.hash_type is not None:
        parts += (b"\x28", encode_varint(message.hash_type))
    if message.fanout is not None:
        parts += (b"\x30", encode_varint(message.fanout))
    if message.mode is not None and message.mode & MODE_MASK:
        parts += (b"\x38", encode_varint(message.mode & MODE_MASK))
    if (mtime := message.mtime) is not None:
        body = b"\x08" + encode_varint(mtime.seconds)
        if mtime.nanoseconds:
            body += b"\x15" + mtime.nanoseconds.to_bytes(4, "little")
        parts += (b"\x42", encode_varint(len(body)), body)
    return b"".join(parts)


def decode(data: bytes) -> UnixfsData:
    """Return the message that `data` holds. Packed and repeated fields are read as protobuf says; unknown ones skipped.

    Raises:
        UnixfsError: no or an unknown type, a known field of another wire type, a HAMT shard's fanout that is no power
            of two from 8 to `MAX_FANOUT`, nanoseconds out of range, or cut short.
    """
    if data == EMPTY_DIRECTORY:
        return _PLAIN_DIRECTORY
    kind: DataType | None = None
    payload: bytes | None = None
    filesize = hash_type = fanout = mode = None
    mtime: Mtime | None = None
    blocksizes: list[int] = []
    position, end = 0, len(data)
    try:
        while position < end:
            if data[position] == _BLOCKSIZE_KEY:
                start = position
                size, position = decode_varint(data, start + 1)
                blocksizes.append(size)
                field = data[start:position]
                while data.startswith(field, position):  # all but the last are the same, as a rule
                    blocksizes.append(size)
                    position += len(field)
                continue
            number, wire_type, value, position = read_field(data, position)
            if number > _LAST_FIELD:
                continue
            if isinstance(value, bytes) and number in (2, 4, 8):
                if number == 2:
                    payload = value
                elif number == 4:  # packed: newer protobuf writers may
                    blocksizes += _unpack(value)
                else:
                    mtime = _decode_mtime(value)
            elif isinstance(value, bytes) or wire_type != VARINT or number in (2, 8):
                raise UnixfsError(f"field {number} has wire type {wire_type}")
            elif number == 1:
                kind = _data_type(value)
            elif number == 3:
                filesize = value
            elif number == 4:  # its key not minimal
                blocksizes.append(value)
            elif number == 5:
                hash_type = value
            elif number == 6:
                fanout = value
            elif number == 7:
                mode = value & 0xFFFFFFFF
    except ProtobufError as exc:
        raise UnixfsError(f"bad UnixFS data: {exc}") from exc
    if kind is None:
        raise UnixfsError("UnixFS data without a type")
    if kind is DataType.HAMT_SHARD and fanout is not None and not is_fanout(fanout):
        raise UnixfsError(f"HAMT fanout {fanout} is not a power of two from 8 to {MAX_FANOUT}")
    return UnixfsData(kind, payload, filesize, tuple(blocksizes), hash_type, fanout, mode, mtime)


def is_fanout(count: int) -> bool:
    """Tell whether a shard can have `count` slots: a power of two from 8 (a bitfield is bytes) to `MAX_FANOUT`."""
    return 8 <= count <= MAX_FANOUT and count.bit_count() == 1


_PLAIN_DIRECTORY: Final = UnixfsData(DataType.DIRECTORY)
_LAST_FIELD: Final = 8
_BLOCKSIZE_KEY: Final = 0x20  # field 4, a varint: what a large file's message consists of
_TYPES: Final = tuple(DataType)  # by number: they are 0 to 5


def _data_type(value: int) -> DataType:
    if value >= len(_TYPES):
        raise UnixfsError(f"unknown UnixFS type {value}")
    return _TYPES[value]


def _unpack(packed: bytes) -> list[int]:
    values, position = [], 0
    while position < len(packed):
        value, position = decode_varint(packed, position)
        values.append(value)
    return values


def _decode_mtime(data: bytes) -> Mtime:
    seconds: int | None = None
    nanoseconds = 0
    for number, wire_type, value in iter_fields(data):
        if number == 1 and wire_type == VARINT and isinstance(value, int):
            seconds = value - (1 << 64) if value >> 63 else value
        elif number == 2 and wire_type == FIXED32 and isinstance(value, int):
            nanoseconds = value
        elif number in (1, 2):
            raise UnixfsError(f"field {number} of the mtime has wire type {wire_type}")
    if seconds is None:
        raise UnixfsError("mtime without seconds")
    if nanoseconds >= _NANOS_PER_SECOND:
        raise UnixfsError(f"mtime of {nanoseconds} nanoseconds is not below a second")
    return Mtime(seconds, nanoseconds)

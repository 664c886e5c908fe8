"""Bitswap's wire message: what it says, written and read, with its limits.

    Message { wantlist = 1 { entries = 1 rep { block = 1, priority = 2, cancel = 3, wantType = 4, sendDontHave = 5 },
                             full = 2 },
              blocks = 2 rep (1.0.0), payload = 3 rep { prefix = 1, data = 2 },
              blockPresences = 4 rep { cid = 1, type = 2 }, pendingBytes = 5 }

The bytes of blocks dominate everything, so neither direction joins or copies them: `encode` returns pieces to be sent
one after the other, `decode` hands out views into what was received. What the bytes are is not known before they are
hashed: a `ReceivedBlock` proves nothing.

Spec: https://specs.ipfs.tech/bitswap-protocol/
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats import varint
from ipvcs.multiformats.cid import Cid
from ipvcs.node.network.interface import Buffer
from ipvcs.objects.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    ProtobufError,
    decode_varint,
    encode_varint,
    iter_fields,
)

BITSWAP_120: Final = "/ipfs/bitswap/1.2.0"
BITSWAP_110: Final = "/ipfs/bitswap/1.1.0"
BITSWAP_100: Final = "/ipfs/bitswap/1.0.0"
BITSWAP_OLD: Final = "/ipfs/bitswap"
"""1.0.0 under its first name."""
PROTOCOLS: Final = (BITSWAP_120, BITSWAP_110, BITSWAP_100, BITSWAP_OLD)
"""Newest first."""

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of an encoded message without its length; Go's and JavaScript's bound, too."""
MAX_CID: Final = 168
"""Bytes of a CID in a wantlist. Go ignores longer ones."""
MAX_ENTRIES: Final = 16_384
"""Wantlist entries, presences and blocks in one message that are read: sixteen times what peers keep of a wantlist."""
_MAX_FIELDS: Final = 8 * MAX_ENTRIES
"""Protobuf fields of all levels, readable or not: 4 MiB of empty ones would take seconds."""
_BLOCK_OVERHEAD: Final = 32
"""Bytes that frame a block in a message, at most, beside its CID's prefix."""
_PIECE: Final = 16 * 1024
"""Bytes from which a block's data is a piece of its own."""
_V0_PREFIX: Final = b"\x00\x70\x12\x20"


class BitswapError(DecodeError):
    """A message breaks the protocol."""


class WantType(IntEnum):
    """What a want asks for: the block, or whether the peer has it."""

    BLOCK = 0
    HAVE = 1


@dataclass(frozen=True, slots=True)
class WantEntry:
    """One line of a wantlist."""

    cid: Cid
    type: WantType = WantType.BLOCK
    priority: int = 1
    """Higher comes first."""
    cancel: bool = False
    send_dont_have: bool = False


@dataclass(frozen=True, slots=True)
class ReceivedBlock:
    """Bytes that a peer says to be a block. `prefix` is its CID without the digest (`Cid.prefix`), unchecked."""

    prefix: bytes
    data: memoryview


@dataclass(frozen=True, slots=True)
class Message:
    """A message as received. `full`: the entries replace all that this peer wanted before."""

    wants: Sequence[WantEntry] = ()
    full: bool = False
    blocks: Sequence[ReceivedBlock] = ()
    haves: Sequence[Cid] = ()
    dont_haves: Sequence[Cid] = ()
    pending_bytes: int = 0


def block_size(cid: Cid, size: int) -> int:
    """Return the bytes that a block of `size` bytes takes in a message, at most."""
    return size + len(cid.raw) + _BLOCK_OVERHEAD


def presence_size(cid: Cid) -> int:
    """Return the bytes that an answer HAVE or DONT_HAVE takes in a message, at most."""
    return len(cid.raw) + 8


def want_size(entry: WantEntry) -> int:
    """Return the bytes that an entry takes in a message, at most."""
    return len(entry.cid.raw) + 24


def encode_wants(entries: Iterable[WantEntry], *, full: bool = False, protocol: str = BITSWAP_120) -> bytes:
    """Return the message of a wantlist, for a peer that speaks `protocol`.

    Before 1.2.0 there is neither `wantType` nor `sendDontHave`: such peers must not be sent HAVE wants, which they
    would take for wants of blocks. Before 1.1.0 a CID is its multihash.
    """
    presences = protocol == BITSWAP_120
    out = bytearray()
    for entry in entries:
        assert presences or entry.cancel or entry.type is WantType.BLOCK
        raw = entry.cid.raw if protocol in (BITSWAP_120, BITSWAP_110) else entry.cid.multihash
        item = b"\x0a" + encode_varint(len(raw)) + raw
        if entry.priority:
            item += b"\x10" + encode_varint(entry.priority)
        if entry.cancel:
            item += b"\x18\x01"
        elif presences:
            if entry.type:
                item += b"\x20\x01"
            if entry.send_dont_have:
                item += b"\x28\x01"
        out += b"\x0a" + encode_varint(len(item)) + item
    if full:
        out += b"\x10\x01"
    return b"\x0a" + encode_varint(len(out)) + bytes(out)


def encode_answers(
    blocks: Sequence[tuple[Cid, bytes]],
    haves: Iterable[Cid] = (),
    dont_haves: Iterable[Cid] = (),
    pending_bytes: int = 0,
    *,
    protocol: str = BITSWAP_120,
) -> list[Buffer]:
    """Return the pieces of a delimited message of answers, its length in front, to be sent in this order.

    Peers before 1.2.0 know no presences and are sent blocks alone; those before 1.1.0 by bytes, without prefix.
    """
    old = protocol not in (BITSWAP_120, BITSWAP_110)
    pieces: list[Buffer] = []
    gathered = bytearray()
    total = 0
    for cid, data in blocks:
        if old:
            head = b"\x12" + encode_varint(len(data))
        else:
            prefix = cid.prefix
            inner = b"\x0a" + encode_varint(len(prefix)) + prefix + b"\x12" + encode_varint(len(data))
            head = b"\x1a" + encode_varint(len(inner) + len(data)) + inner
        gathered += head
        total += len(head) + len(data)
        if len(data) < _PIECE:
            gathered += data
        else:
            pieces += (bytes(gathered), data)
            gathered.clear()
    tail = bytearray()
    if protocol == BITSWAP_120:
        for cids, kind in ((haves, b""), (dont_haves, b"\x10\x01")):
            for cid in cids:
                item = b"\x0a" + encode_varint(len(cid.raw)) + cid.raw + kind
                tail += b"\x22" + encode_varint(len(item)) + item
        if pending_bytes:
            tail += b"\x28" + encode_varint(min(pending_bytes, 0x7FFFFFFF))
    gathered += tail
    total += len(tail)
    if gathered:
        pieces.append(bytes(gathered))
    assert total <= MAX_MESSAGE, "the message was packed beyond its bound"
    length = varint.encode(total)
    if pieces:
        pieces[0] = length + bytes(pieces[0])
        return pieces
    return [length]


def decode(data: bytes | memoryview) -> Message:
    """Return what a message says; blocks are views into `data`, which must not change any more.

    CIDs of a wantlist that are too long or can't be read are left out, as they can't name a block of ours: a peer with
    a newer kind of CID is no reason to lose the rest of its message (Go resets the stream instead).

    Raises:
        BitswapError: not a message, more than `MAX_ENTRIES` entries, or more fields than that many can have.
    """
    return _Decoder(memoryview(data)).decode()


class _Decoder:
    """One message being read, and how many fields it may still have."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._fields_left = _MAX_FIELDS
        self._wants: list[WantEntry] = []
        self._blocks: list[ReceivedBlock] = []
        self._presences: tuple[list[Cid], list[Cid]] = ([], [])

    def decode(self) -> Message:
        full = False
        pending = 0
        try:
            for number, value in self._views(self._view):
                if number == 1 and isinstance(value, memoryview):
                    full = self._read_wantlist(bytes(value)) or full
                elif number == 2 and isinstance(value, memoryview):
                    self._blocks.append(ReceivedBlock(_V0_PREFIX, value))
                elif number == 3 and isinstance(value, memoryview):
                    self._blocks.append(self._read_block(value))
                elif number == 4 and isinstance(value, memoryview):
                    self._read_presence(bytes(value))
                elif number == 5 and isinstance(value, int):
                    pending = value & 0xFFFFFFFF
        except ProtobufError as exc:
            raise BitswapError(f"not a Bitswap message: {exc}") from exc
        if len(self._wants) + len(self._blocks) + sum(map(len, self._presences)) > MAX_ENTRIES:
            raise BitswapError(f"message has more than {MAX_ENTRIES} entries")
        return Message(
            self._wants, full, self._blocks, *self._presences, pending_bytes=pending if pending < 1 << 31 else 0
        )

    def _count(self) -> None:
        self._fields_left -= 1
        if self._fields_left < 0:
            raise BitswapError(f"message has more than {_MAX_FIELDS} fields")

    def _views(self, view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Yield (number, value) of fields of the types VARINT and BYTES, the latter as views; skip fixed ones."""
        position, end = 0, len(view)
        while position < end:
            self._count()
            key, position = decode_varint(view, position)  # type: ignore[arg-type]  # a view is indexed like bytes
            wire_type = key & 7
            if wire_type == BYTES:
                size, position = decode_varint(view, position)  # type: ignore[arg-type]
                if size > end - position:
                    raise ProtobufError(f"field {key >> 3} is cut short")
                yield key >> 3, view[position : position + size]
                position += size
            elif wire_type == VARINT:
                value, position = decode_varint(view, position)  # type: ignore[arg-type]
                yield key >> 3, value
            elif wire_type in (FIXED32, FIXED64):
                position += 8 if wire_type == FIXED64 else 4
                if position > end:
                    raise ProtobufError(f"field {key >> 3} is cut short")
            else:
                raise ProtobufError(f"field {key >> 3} has unsupported wire type {wire_type}")

    def _read_wantlist(self, data: bytes) -> bool:
        full = False
        for number, wire_type, value in iter_fields(data):
            self._count()
            if (number, wire_type) == (1, BYTES) and isinstance(value, bytes):
                if (entry := self._read_entry(value)) is not None:
                    self._wants.append(entry)
            elif (number, wire_type) == (2, VARINT):
                full = bool(value)
        return full

    def _read_entry(self, data: bytes) -> WantEntry | None:
        cid: Cid | None = None
        priority, cancel, kind, send_dont_have = 0, False, 0, False
        for number, wire_type, value in iter_fields(data):
            self._count()
            if number == 1 and wire_type == BYTES and isinstance(value, bytes):
                cid = _read_cid(value)
            elif wire_type == VARINT and isinstance(value, int):
                if number == 2:
                    priority = _signed(value)
                elif number == 3:
                    cancel = bool(value)
                elif number == 4:
                    kind = value
                elif number == 5:
                    send_dont_have = bool(value)
        if cid is None or kind not in (WantType.BLOCK, WantType.HAVE):
            return None
        return WantEntry(cid, WantType(kind), priority, cancel, send_dont_have)

    def _read_block(self, view: memoryview) -> ReceivedBlock:
        prefix, data = b"", view[:0]
        for number, value in self._views(view):
            if number == 1 and isinstance(value, memoryview):
                prefix = bytes(value)
            elif number == 2 and isinstance(value, memoryview):
                data = value
        return ReceivedBlock(prefix, data)

    def _read_presence(self, data: bytes) -> None:
        cid: Cid | None = None
        kind = 0
        for number, wire_type, value in iter_fields(data):
            self._count()
            if (number, wire_type) == (1, BYTES) and isinstance(value, bytes):
                cid = _read_cid(value)
            elif (number, wire_type) == (2, VARINT) and isinstance(value, int):
                kind = value
        if cid is not None and kind in (0, 1):
            self._presences[kind].append(cid)


def _read_cid(raw: bytes) -> Cid | None:
    """Return the CID, None when it is too long or can't be read. A bare sha2-256 multihash is CIDv0."""
    if len(raw) > MAX_CID:
        return None
    try:
        return Cid.decode(raw)
    except DecodeError:
        return None


def _signed(value: int) -> int:
    """Return an int32 as protobuf carries it: negative ones as 64-bit two's complement."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value

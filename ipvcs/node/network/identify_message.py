"""What peers tell each other of themselves, as it travels: identify's message, in one piece or in several.

A peer's messages on one stream are one message in parts: they are merged as protobuf merges, lists grow and single
fields are replaced. That is how a message gets past readers with small buffers.

    reader.receive_data(…)*  ->  reader.finish()  ->  IdentifyMessage  ->  encode_messages()

Spec: https://github.com/libp2p/specs/blob/master/identify/README.md
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ipvcs.errors import DecodeError, RemoteProtocolError
from ipvcs.multiformats import varint
from ipvcs.multiformats.multiaddr import Multiaddr, MultiaddrError
from ipvcs.objects.protobuf import BYTES, encode_varint, iter_fields

T = TypeVar("T")

MAX_MESSAGES: Final = 10
MAX_MESSAGE: Final = 8 * 1024
"""Of what we read: messages a stream, and bytes of each. As go-libp2p and js-libp2p."""
MAX_PROTOCOLS: Final = 128
"""Kept of one peer, in its order, as in go-libp2p's peer store; Kubo speaks some 25."""
MAX_PROTOCOL_LENGTH: Final = 256
"""Bytes; longer names are left out. No name that anybody serves has 100."""
MAX_ADDRS: Final = 64
MAX_ADDR_LENGTH: Final = 512
"""Addresses kept of one peer, and the bytes of each; a relay's with a certificate hash has some 200."""
MAX_VERSION_LENGTH: Final = 128
"""Characters of the two versions; Kubo cuts there, too."""
OWN_MESSAGE: Final = 2 * 1024
OWN_TOTAL: Final = 4 * 1024
"""Of what we write, bytes: old Go nodes read 2 KiB a message, rust-libp2p 4 KiB in all."""

_PUBLIC_KEY: Final = 1
_LISTEN_ADDRS: Final = 2
_PROTOCOLS: Final = 3
_OBSERVED_ADDR: Final = 4
_PROTOCOL_VERSION: Final = 5
_AGENT_VERSION: Final = 6
_SIGNED_PEER_RECORD: Final = 8
_KNOWN: Final = frozenset((1, 2, 3, 4, 5, 6, 8))  # number 7 was for deltas


class IdentifyMessageError(RemoteProtocolError):
    """The peer's identify messages are malformed, too large or too many."""


@dataclass(frozen=True, slots=True)
class IdentifyMessage:
    """What a peer says of itself, unverified. None and empty mean: not said."""

    public_key: bytes | None = None
    """The protobuf message PublicKey."""
    listen_addrs: tuple[Multiaddr, ...] = ()
    protocols: tuple[str, ...] = ()
    observed_addr: Multiaddr | None = None
    """Where we come from, as the peer sees it."""
    protocol_version: str | None = None
    agent_version: str | None = None
    signed_peer_record: bytes | None = None
    """An envelope with a peer record."""

    def merge(self, later: "IdentifyMessage") -> "IdentifyMessage":
        """Return this message with what `later`, the next part of it, adds and replaces."""
        return IdentifyMessage(
            later.public_key or self.public_key,
            _first((*self.listen_addrs, *later.listen_addrs), MAX_ADDRS),
            _first((*self.protocols, *later.protocols), MAX_PROTOCOLS),
            later.observed_addr or self.observed_addr,
            self.protocol_version if later.protocol_version is None else later.protocol_version,
            self.agent_version if later.agent_version is None else later.agent_version,
            later.signed_peer_record or self.signed_peer_record,
        )


class IdentifyReader:
    """Puts a peer's messages together from bytes as they arrive."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._message = IdentifyMessage()
        self._count = 0

    @property
    def is_whole(self) -> bool:
        """Whether a message has arrived and none is under way: a peer that forgets to end the stream is done, too."""
        return self._count > 0 and not self._inbox

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer.

        Raises:
            IdentifyMessageError: over `MAX_MESSAGES` or `MAX_MESSAGE`, or not protobuf; read no more.
        """
        self._inbox += data
        while self._inbox:
            try:
                size, start = varint.decode(self._inbox)
            except varint.TruncatedVarintError:
                return
            except varint.VarintError as exc:
                raise IdentifyMessageError(f"the peer's identify message has a bad length: {exc}") from exc
            if size > MAX_MESSAGE:
                raise IdentifyMessageError(f"the peer's identify message of {size} bytes is over {MAX_MESSAGE}")
            if self._count == MAX_MESSAGES:
                raise IdentifyMessageError(f"the peer identifies itself in more than {MAX_MESSAGES} messages")
            if len(self._inbox) < start + size:
                return
            part = bytes(self._inbox[start : start + size])
            del self._inbox[: start + size]
            self._count += 1
            self._message = self._message.merge(decode_message(part))

    def finish(self) -> IdentifyMessage:
        """Return the message, now that the peer has ended its side.

        Raises:
            IdentifyMessageError: it ended inside a message, or before the first.
        """
        if not self.is_whole:
            where = "inside" if self._inbox else "before"
            raise IdentifyMessageError(f"the peer ended the stream {where} its identify message")
        return self._message


def decode_message(data: bytes) -> IdentifyMessage:
    """Read one message, without its length. Unknown fields are skipped, and so is every address, protocol or text that
    we cannot read: a peer that is newer than we are is not a broken one.

    Raises:
        IdentifyMessageError: not protobuf, or a field with a number where bytes belong.
    """
    single: dict[int, bytes] = {}
    addrs: list[Multiaddr] = []
    protocols: list[str] = []
    try:
        for number, _wire_type, value in iter_fields(data):
            if number not in _KNOWN:
                continue
            if not isinstance(value, bytes):
                raise IdentifyMessageError(f"field {number} of the peer's identify message is a number")
            if number == _LISTEN_ADDRS:
                if len(addrs) < MAX_ADDRS and (addr := _decode_addr(value)) is not None:
                    addrs.append(addr)
            elif number == _PROTOCOLS:
                if len(protocols) < MAX_PROTOCOLS and (protocol := _decode_protocol(value)) is not None:
                    protocols.append(protocol)
            else:
                single[number] = value
    except DecodeError as exc:
        raise IdentifyMessageError(f"the peer's identify message is malformed: {exc}") from exc
    return IdentifyMessage(
        single.get(_PUBLIC_KEY) or None,
        _first(addrs, MAX_ADDRS),
        _first(protocols, MAX_PROTOCOLS),
        _decode_addr(single.get(_OBSERVED_ADDR, b"")),
        _decode_version(single.get(_PROTOCOL_VERSION)),
        _decode_version(single.get(_AGENT_VERSION)),
        single.get(_SIGNED_PEER_RECORD) or None,
    )


def encode_messages(message: IdentifyMessage) -> bytes:
    """Return `message` as it travels, lengths included: one message up to `OWN_MESSAGE` bytes, else several, the signed
    record last and by itself, so that a reader of the first alone misses little.

    What is over `OWN_TOTAL` is for some peers no message at all: the caller leaves out addresses before that.
    """
    fields = list(_encode_fields(message))
    if sum(map(len, fields)) <= OWN_MESSAGE:
        return _delimit(fields)
    out = bytearray()
    part: list[bytes] = []
    for index, field in enumerate(fields):
        record = message.signed_peer_record is not None and index == len(fields) - 1
        if part and (record or sum(map(len, part)) + len(field) > OWN_MESSAGE):
            out += _delimit(part)
            part = []
        part.append(field)
    return bytes(out + _delimit(part))


def _encode_fields(message: IdentifyMessage) -> Iterable[bytes]:
    if message.public_key is not None:
        yield _field(_PUBLIC_KEY, message.public_key)
    for addr in message.listen_addrs:
        yield _field(_LISTEN_ADDRS, addr.raw)
    for protocol in message.protocols:
        yield _field(_PROTOCOLS, protocol.encode())
    if message.observed_addr is not None:
        yield _field(_OBSERVED_ADDR, message.observed_addr.raw)
    if message.protocol_version is not None:
        yield _field(_PROTOCOL_VERSION, message.protocol_version.encode())
    if message.agent_version is not None:
        yield _field(_AGENT_VERSION, message.agent_version.encode())
    if message.signed_peer_record is not None:
        yield _field(_SIGNED_PEER_RECORD, message.signed_peer_record)


def _field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value


def _delimit(fields: Sequence[bytes]) -> bytes:
    body = b"".join(fields)
    return varint.encode(len(body)) + body


def _decode_addr(data: bytes) -> Multiaddr | None:
    if len(data) > MAX_ADDR_LENGTH:
        return None
    try:
        return Multiaddr.decode(data)
    except MultiaddrError:
        return None


def _decode_protocol(data: bytes) -> str | None:
    if not 0 < len(data) <= MAX_PROTOCOL_LENGTH:
        return None
    try:
        protocol = data.decode()
    except UnicodeDecodeError:
        return None
    return protocol if protocol.isprintable() else None


def _decode_version(data: bytes | None) -> str | None:
    """Return text that is safe to show: a stranger must not steer the terminal it is printed on."""
    if data is None:
        return None
    text = data.decode(errors="replace")
    return "".join(character for character in text if character.isprintable())[:MAX_VERSION_LENGTH]


def _first(items: Iterable[T], count: int) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))[:count]

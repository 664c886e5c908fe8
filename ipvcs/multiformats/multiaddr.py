"""Multiaddrs: self-describing network addresses, `/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo…`.

An address is a row of components, each a protocol's number and its value, outermost first. A `Multiaddr` wraps the
binary form, checked, and reads components out of it when asked.

Spec: https://github.com/multiformats/multiaddr
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self, TypeVar

from ipvcs.errors import DecodeError, shorten
from ipvcs.multiformats import varint
from ipvcs.multiformats.multiaddr_protocols import BY_CODE, BY_NAME, VARIABLE, Protocol, ProtocolValueError
from ipvcs.multiformats.peer_id import PeerId

T = TypeVar("T")

MAX_BYTES: Final = 4 * 1024
"""Longer addresses are refused: an identify message, which carries a peer's whole list, has about as much."""
MAX_TEXT_LENGTH: Final = 64 * 1024
"""Characters. No address of `MAX_BYTES` is longer as text: two bytes are at most the 18 of `/p2p-webrtc-direct`."""


class MultiaddrError(DecodeError):
    """Not a multiaddr. `subject` is what was given, as text."""

    def __init__(self, message: str, subject: str | None = None) -> None:
        if subject is None:
            super().__init__(f"invalid multiaddr: {message}")
        else:
            super().__init__(
                f"invalid multiaddr '{shorten(subject, 200)}': {message}",
                hint="a multiaddr looks like '/ip4/127.0.0.1/tcp/4001' or '/dns/example.com/udp/4001/quic-v1'",
            )
        self.subject = subject


class Component(NamedTuple):
    """A protocol's name and its value as text, empty for a protocol that has none."""

    protocol: str
    value: str


@dataclass(frozen=True, slots=True, order=True)
class Multiaddr:
    """One address, as its binary form.

    Make one with `decode` or `parse`; the constructor itself does not check.
    """

    raw: bytes

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the multiaddr that `data` holds.

        Raises:
            MultiaddrError: empty, over `MAX_BYTES`, cut short, an unknown protocol, a value its protocol does not
                have, or a component after a path.
        """
        raw = bytes(data)
        if not raw:
            raise MultiaddrError("it is empty")
        if len(raw) > MAX_BYTES:
            raise MultiaddrError(f"{len(raw)} bytes are over the limit of {MAX_BYTES}")
        path = ""
        for protocol, value, _end in _iter_components(raw):
            if path:
                raise MultiaddrError(f"/{protocol.name} follows the path of /{path}")
            if protocol.size:
                _call(protocol.check or protocol.to_text, protocol, value)
            path = protocol.name if protocol.is_path else ""
        return cls(raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the multiaddr that `text` writes; a trailing slash is dropped, `/ipfs/` is read as `/p2p/`.

        Raises:
            MultiaddrError: no leading slash, nothing after it, over `MAX_TEXT_LENGTH`, an unknown protocol, or a value
                that is missing or that its protocol does not have.
        """
        if len(text) > MAX_TEXT_LENGTH:
            raise MultiaddrError(f"longer than {MAX_TEXT_LENGTH} characters", text)
        start, *parts = text.rstrip("/").split("/")
        if start:
            raise MultiaddrError("it does not start with '/'", text)
        if not parts:
            raise MultiaddrError("it is empty", text)
        out = bytearray()
        rest = iter(parts)
        for name in rest:
            if (protocol := BY_NAME.get(name)) is None:
                raise MultiaddrError(f"unknown protocol '{name[:40]}'", text)
            out += varint.encode(protocol.code)
            if not protocol.size:
                continue
            if (value_text := next(rest, None)) is None:
                raise MultiaddrError(f"/{name} has no value", text)
            if protocol.is_path:
                value_text = "/".join(("", value_text, *rest))
            try:
                value = protocol.to_bytes(value_text)
            except ProtocolValueError as exc:
                raise MultiaddrError(f"'{value_text[:80]}' is no value of /{name}: {exc}", text) from exc
            if protocol.size == VARIABLE:
                out += varint.encode(len(value))
            out += value
        if len(out) > MAX_BYTES:
            raise MultiaddrError(f"{len(out)} bytes are over the limit of {MAX_BYTES}", text)
        return cls(bytes(out))

    def __iter__(self) -> Iterator[Component]:
        """Yield the components, outermost first."""
        for protocol, value, _end in _iter_components(self.raw):
            yield Component(protocol.name, _to_text(protocol, value))

    def __str__(self) -> str:
        out: list[str] = []
        for protocol, value, _end in _iter_components(self.raw):
            out.append(f"/{protocol.name}")
            if protocol.size:
                text = _to_text(protocol, value)
                out.append(text if protocol.is_path else f"/{text}")
        return "".join(out)

    def __repr__(self) -> str:
        return f"Multiaddr({self})"

    @property
    def protocols(self) -> tuple[str, ...]:
        """The components' protocols by name, outermost first."""
        return tuple(protocol.name for protocol, _value, _end in _iter_components(self.raw))

    def value_for(self, name: str) -> str | None:
        """Return the text value of the first component with protocol `name`: empty if it has none, None if absent."""
        for protocol, value, _end in _iter_components(self.raw):
            if protocol.name == name:
                return _to_text(protocol, value)
        return None

    @property
    def peer_id(self) -> PeerId | None:
        """The peer that the address leads to: its last `/p2p`, unless a `/p2p-circuit` to somebody else follows."""
        found = None
        for protocol, value, _end in _iter_components(self.raw):
            if protocol.name == "p2p":
                found = PeerId(value)
            elif protocol.name == "p2p-circuit":
                found = None
        return found

    def encapsulate(self, inner: "Multiaddr") -> "Multiaddr":
        """Return this address with `inner` behind it.

        Raises:
            MultiaddrError: this one ends in a path, or both are over `MAX_BYTES`.
        """
        return Multiaddr.decode(self.raw + inner.raw)

    def decapsulate(self, inner: "Multiaddr") -> "Multiaddr | None":
        """Return what stands before the last place where `inner` is found, whole components compared.

        Returns:
            This very address when `inner` is not found in it; None when nothing stands before it.
        """
        raw, starts = self.raw, [0]
        starts += [end for _protocol, _value, end in _iter_components(raw)]
        for start in reversed(starts[:-1]):
            if raw.startswith(inner.raw, start):
                return Multiaddr(raw[:start]) if start else None
        return self


def _to_text(protocol: Protocol, value: bytes) -> str:
    return _call(protocol.to_text, protocol, value) if protocol.size else ""


def _call(function: Callable[[bytes], T], protocol: Protocol, value: bytes) -> T:
    try:
        return function(value)
    except ProtocolValueError as exc:
        raise MultiaddrError(f"bad value of /{protocol.name}: {exc}") from exc


def _iter_components(raw: bytes) -> Iterator[tuple[Protocol, bytes, int]]:
    """Yield (protocol, value, offset after it) of each component of `raw`; values are not looked into."""
    position = 0
    while position < len(raw):
        try:
            code, position = varint.decode(raw, position)
            if (protocol := BY_CODE.get(code)) is None:
                raise MultiaddrError(f"unknown protocol {code}")
            size = protocol.size
            if size == VARIABLE:
                size, position = varint.decode(raw, position)
        except varint.VarintError as exc:
            raise MultiaddrError(str(exc)) from exc
        end = position + size
        if end > len(raw):
            raise MultiaddrError(f"/{protocol.name} is cut short")
        yield protocol, raw[position:end], end
        position = end

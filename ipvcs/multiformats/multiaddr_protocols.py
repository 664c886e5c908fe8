"""The protocols that a multiaddr is made of: their numbers, and how each writes its value as text and as bytes.

A value is checked whichever form it comes in, so what was decoded can always be printed, and parses again.

Spec: https://github.com/multiformats/multiaddr (protocols.csv); where it is silent, go-multiaddr 0.16. We are stricter
in one thing: names and paths must be UTF-8, as in rust-multiaddr, for they are shown to people.
"""

from base64 import b64decode, b64encode
from binascii import unhexlify
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats import multibase, multihash
from ipvcs.multiformats.bit_bases import BitBase
from ipvcs.multiformats.peer_id import PeerId

VARIABLE: Final = -1
"""The size of a protocol whose values are preceded by their length."""

_IP4_IN_IP6: Final = bytes(10) + b"\xff\xff"
_BASE32: Final = BitBase(5, "abcdefghijklmnopqrstuvwxyz234567")
_BASE32_ANY_CASE: Final = BitBase(5, "abcdefghijklmnopqrstuvwxyz234567", any_case=True)
_ONION_BYTES: Final = 10
_ONION3_BYTES: Final = 35
_GARLIC64_MIN: Final = 386  # an I2P destination: keys of 384 bytes, then a certificate
_GARLIC32_BYTES: Final = 32
_GARLIC32_ENCRYPTED_MIN: Final = 35  # the address of an encrypted lease set
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")  # RFC 3986


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol. The functions raise ValueError or DecodeError, saying what is wrong with the value."""

    name: str
    code: int
    size: int = 0
    """Bytes of a value; 0 for a protocol without one, `VARIABLE` for one with its length in front."""
    to_bytes: Callable[[str], bytes] = str.encode
    to_text: Callable[[bytes], str] = bytes.decode
    check: Callable[[bytes], object] | None = None
    """Raises what `to_text` raises, at less cost; None when there is no cheaper way than `to_text`."""
    is_path: bool = False
    """The value's text has slashes and goes on to the end of the multiaddr."""


def _number(text: str, bits: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError("not a decimal number")
    if (number := int(text)) >> bits:
        raise ValueError(f"over {(1 << bits) - 1}")
    return number


def _unsigned(name: str, code: int, size: int) -> Protocol:
    """Return the protocol of a number of `size` bytes."""
    return Protocol(
        name,
        code,
        size,
        lambda text: _number(text, 8 * size).to_bytes(size, "big"),
        lambda value: str(int.from_bytes(value, "big")),
        len,  # the caller has seen to the length; any bytes will do
    )


def _ip6_to_bytes(text: str) -> bytes:
    if "%" in text:
        raise ValueError("the zone goes in front, as /ip6zone")
    return IPv6Address(text).packed


def _ip6_to_text(value: bytes) -> str:
    if value[:12] == _IP4_IN_IP6:  # Python writes these in hex until 3.13
        return f"::ffff:{IPv4Address(value[12:])}"
    return str(IPv6Address(value))


def _name_to_bytes(text: str) -> bytes:
    value = text.encode()
    _name_to_text(value)
    return value


def _name_to_text(value: bytes) -> str:
    """A host name or IPv6 zone: anything but empty and slashes, which would end the component."""
    if not value:
        raise ValueError("empty")
    if b"/" in value:
        raise ValueError("it contains a slash")
    return value.decode()


def _unix_to_bytes(text: str) -> bytes:
    value = text.encode()
    _unix_to_text(value)
    return value


def _unix_to_text(value: bytes) -> str:
    if len(value) < 2 or value[:1] != b"/" or value[-1:] == b"/":
        raise ValueError("not the absolute path of a file")
    return value.decode()


def _onion(name: str, code: int, host_size: int) -> Protocol:
    """Return the protocol of a Tor address: base32 of `host_size` bytes, a colon, a port that is not 0."""

    def to_bytes(text: str) -> bytes:
        host, colon, port = text.partition(":")
        value = _BASE32_ANY_CASE.decode(host)
        if len(value) != host_size or not colon:
            raise ValueError(f"not {host_size * 8 // 5} characters of base32, a colon, and a port")
        value += _number(port, 16).to_bytes(2, "big")
        to_text(value)
        return value

    def to_text(value: bytes) -> str:
        port = int.from_bytes(value[host_size:], "big")
        if port == 0:
            raise ValueError("port is 0")
        return f"{_BASE32.encode(value[:host_size])}:{port}"

    return Protocol(name, code, host_size + 2, to_bytes, to_text)


def _garlic64_to_bytes(text: str) -> bytes:
    if "+" in text:
        raise ValueError("I2P writes base64 with '-' and '~'")
    value = b64decode(text, b"-~", validate=True)
    _garlic64_to_text(value)
    return value


def _garlic64_to_text(value: bytes) -> str:
    if len(value) < _GARLIC64_MIN:
        raise ValueError(f"{len(value)} bytes are less than the {_GARLIC64_MIN} of an I2P destination")
    return b64encode(value, b"-~").decode()


def _garlic32_to_bytes(text: str) -> bytes:
    value = _BASE32.decode(text)
    _garlic32_to_text(value)
    return value


def _garlic32_to_text(value: bytes) -> str:
    if len(value) != _GARLIC32_BYTES and len(value) < _GARLIC32_ENCRYPTED_MIN:
        raise ValueError(f"{len(value)} bytes are no I2P address")
    return _BASE32.encode(value)


def _certhash_to_bytes(text: str) -> bytes:
    value = multibase.decode(text)
    multihash.decode(value)
    return value


def _certhash_to_text(value: bytes) -> str:
    multihash.decode(value)
    return multibase.encode(value, "base64url")


def _http_path_to_bytes(text: str) -> bytes:
    """Undo percent-encoding; `+` is a space, as go-multiaddr writes one."""
    first, *escaped = text.replace("+", " ").split("%")
    value = bytearray(first.encode())
    for part in escaped:
        value += unhexlify(part[:2]) + part[2:].encode()
        if len(part) < 2:
            raise ValueError("'%' is not followed by two hex digits")
    _http_path_to_text(bytes(value))
    return bytes(value)


def _http_path_to_text(value: bytes) -> str:
    """Percent-encode all but unreserved characters: a space is `%20`, which go and js read alike."""
    if not value:
        raise ValueError("empty")
    return "".join([chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in value])


def _p2p_to_bytes(text: str) -> bytes:
    return PeerId.parse(text).raw


def _p2p_to_text(value: bytes) -> str:
    return str(PeerId.decode(value))


def _name(name: str, code: int) -> Protocol:
    return Protocol(name, code, VARIABLE, _name_to_bytes, _name_to_text)


PROTOCOLS: Final = (
    Protocol("ip4", 4, 4, lambda text: IPv4Address(text).packed, lambda value: str(IPv4Address(value)), len),
    _unsigned("tcp", 6, 2),
    _unsigned("dccp", 33, 2),
    Protocol("ip6", 41, 16, _ip6_to_bytes, _ip6_to_text, len),
    _name("ip6zone", 42),
    _unsigned("ipcidr", 43, 1),
    _name("dns", 53),
    _name("dns4", 54),
    _name("dns6", 55),
    _name("dnsaddr", 56),
    _unsigned("sctp", 132, 2),
    _unsigned("udp", 273, 2),
    Protocol("p2p-webrtc-direct", 276),
    Protocol("webrtc-direct", 280),
    Protocol("webrtc", 281),
    Protocol("p2p-circuit", 290),
    Protocol("udt", 301),
    Protocol("utp", 302),
    Protocol("unix", 400, VARIABLE, _unix_to_bytes, _unix_to_text, is_path=True),
    Protocol("p2p", 421, VARIABLE, _p2p_to_bytes, _p2p_to_text, PeerId.decode),
    Protocol("https", 443),
    _onion("onion", 444, _ONION_BYTES),
    _onion("onion3", 445, _ONION3_BYTES),
    Protocol("garlic64", 446, VARIABLE, _garlic64_to_bytes, _garlic64_to_text),
    Protocol("garlic32", 447, VARIABLE, _garlic32_to_bytes, _garlic32_to_text),
    Protocol("tls", 448),
    _name("sni", 449),
    Protocol("noise", 454),
    Protocol("quic", 460),
    Protocol("quic-v1", 461),
    Protocol("webtransport", 465),
    Protocol("certhash", 466, VARIABLE, _certhash_to_bytes, _certhash_to_text),
    Protocol("ws", 477),
    Protocol("wss", 478),
    Protocol("http", 480),
    Protocol("http-path", 481, VARIABLE, _http_path_to_bytes, _http_path_to_text),
    _unsigned("memory", 777, 8),
    Protocol("plaintextv2", 7367777),
)
"""Every protocol that go-multiaddr knows, in order of their numbers."""

BY_CODE: Final = {protocol.code: protocol for protocol in PROTOCOLS}
BY_NAME: Final = {protocol.name: protocol for protocol in PROTOCOLS}
BY_NAME["ipfs"] = BY_NAME["p2p"]  # the old name, read but never written

ProtocolValueError = (ValueError, DecodeError)
"""What `to_bytes` and `to_text` raise."""

"""The multicodec numbers that ipvcs knows, by name and by number.

Spec: https://github.com/multiformats/multicodec (table.csv)
"""

from typing import Final

from ipvcs.errors import UsageError

CIDV1: Final = 0x01
RAW: Final = 0x55
DAG_PB: Final = 0x70
DAG_CBOR: Final = 0x71
LIBP2P_KEY: Final = 0x72
GIT_RAW: Final = 0x78
DAG_JSON: Final = 0x0129

CODES: Final[dict[str, int]] = {
    "identity": 0x00,
    "cbor": 0x51,
    "raw": RAW,
    "dag-pb": DAG_PB,
    "dag-cbor": DAG_CBOR,
    "libp2p-key": LIBP2P_KEY,
    "git-raw": GIT_RAW,
    "dag-jose": 0x85,
    "dag-cose": 0x86,
    "eth-block": 0x90,
    "bitcoin-block": 0xB0,
    "dag-json": DAG_JSON,
    "json": 0x0200,
    "car": 0x0202,
}
"""IPLD codecs by name; a CID with any other number still parses and prints, its codec as hex."""

_NAMES: Final = {code: name for name, code in CODES.items()}


class UnknownCodecError(UsageError):
    """No codec has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown codec '{name}'", hint=f"one of: {', '.join(CODES)}")
        self.name = name


def name_of(code: int) -> str:
    """Return the codec's name, or its number as `0x…` when the table lacks it."""
    return _NAMES.get(code) or hex(code)


def code_of(name: str) -> int:
    """Return the codec's number; `0x…` is taken as it is.

    Raises:
        UnknownCodecError: neither a known name nor a number.
    """
    if (code := CODES.get(name)) is not None:
        return code
    try:
        return int(name, 16) if name.startswith("0x") else int(name)
    except ValueError:
        raise UnknownCodecError(name) from None

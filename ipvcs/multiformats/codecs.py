"""The multicodec numbers that ipvcs knows, by name and by number.

Spec: https://github.com/multiformats/multicodec (table.csv)
"""

from typing import Final

from ipvcs.errors import UsageError

RAW: Final = 0x55
DAG_PB: Final = 0x70
DAG_CBOR: Final = 0x71
LIBP2P_KEY: Final = 0x72
GIT_RAW: Final = 0x78
DAG_JSON: Final = 0x0129

IPLD_CODES: Final[dict[str, int]] = {
    "cbor": 0x51,
    "raw": RAW,
    "dag-pb": DAG_PB,
    "dag-cbor": DAG_CBOR,
    "libp2p-key": LIBP2P_KEY,
    "git-raw": GIT_RAW,
    "torrent-info": 0x7B,
    "torrent-file": 0x7C,
    "blake3-hashseq": 0x80,
    "leofcoin-block": 0x81,
    "leofcoin-tx": 0x82,
    "leofcoin-pr": 0x83,
    "dag-jose": 0x85,
    "dag-cose": 0x86,
    "eth-block": 0x90,
    "eth-block-list": 0x91,
    "eth-tx-trie": 0x92,
    "eth-tx": 0x93,
    "eth-tx-receipt-trie": 0x94,
    "eth-tx-receipt": 0x95,
    "eth-state-trie": 0x96,
    "eth-account-snapshot": 0x97,
    "eth-storage-trie": 0x98,
    "eth-receipt-log-trie": 0x99,
    "eth-receipt-log": 0x9A,
    "bitcoin-block": 0xB0,
    "bitcoin-tx": 0xB1,
    "bitcoin-witness-commitment": 0xB2,
    "zcash-block": 0xC0,
    "zcash-tx": 0xC1,
    "stellar-block": 0xD0,
    "stellar-tx": 0xD1,
    "decred-block": 0xE0,
    "decred-tx": 0xE1,
    "dash-block": 0xF0,
    "dash-tx": 0xF1,
    "swarm-manifest": 0xFA,
    "swarm-feed": 0xFB,
    "beeson": 0xFC,
    "dag-json": DAG_JSON,
    "swhid-1-snp": 0x1F0,
    "json": 0x200,
    "rdfc-1": 0xB403,
    "json-jcs": 0xB601,
}
"""The formats of IPLD blocks, by name and in order of their numbers: what `ipfs cid codecs` lists.

Most are names only. A CID with a number that is not here still parses and prints, its codec as hex.
"""

CODES: Final[dict[str, int]] = {**IPLD_CODES, "identity": 0x00, "car": 0x0202}
"""All codecs that a CID can be given by name."""

MAX_CODE: Final = (1 << 63) - 1  # the largest varint

_NAMES: Final = {code: name for name, code in CODES.items()}


class UnknownCodecError(UsageError):
    """No codec has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown codec '{name}'", hint="a name that `ipvcs cid codecs` lists, or a number")
        self.name = name


def name_of(code: int) -> str:
    """Return the codec's name, or its number as `0x…` when the table lacks it."""
    return _NAMES.get(code) or hex(code)


def code_of(name: str) -> int:
    """Return the codec's number; a number, decimal or `0x…`, is taken as it is.

    Raises:
        UnknownCodecError: neither a known name nor a number up to `MAX_CODE`.
    """
    if (code := CODES.get(name)) is not None:
        return code
    digits, base = (name[2:], 16) if name.startswith("0x") else (name, 10)
    if len(digits) <= 20 and digits.isascii() and digits.isalnum():
        try:
            code = int(digits, base)
        except ValueError:
            raise UnknownCodecError(name) from None
        if code <= MAX_CODE:
            return code
    raise UnknownCodecError(name)

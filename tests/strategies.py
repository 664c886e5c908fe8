"""Hypothesis strategies for the values that many tests need."""

from base64 import b32encode, b64encode

from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.multiaddr_protocols import PROTOCOLS
from ipvcs.multiformats.peer_id import MAX_INLINE_KEY, PeerId

_CODES = st.one_of(st.integers(0, 0x7F), st.integers(0, (1 << 63) - 1))


def varints() -> st.SearchStrategy[int]:
    """Values that a varint holds, each encoded length about equally often."""
    return st.integers(1, 9).flatmap(lambda size: st.integers(0, (1 << 7 * size) - 1))


def multihashes() -> st.SearchStrategy[bytes]:
    """Well-formed multihashes: mostly of functions we know, with digests of any legal length."""
    digest = st.binary(max_size=multihash.MAX_DIGEST)
    codes = st.one_of(st.sampled_from(list(multihash.NAMES.values())), _CODES)
    sha2_256 = st.binary(min_size=32, max_size=32).map(lambda value: multihash.wrap(multihash.SHA2_256, value))
    return st.one_of(sha2_256, st.builds(multihash.wrap, codes, digest))


def cids() -> st.SearchStrategy[Cid]:
    """CIDs of both versions: any codec, any multihash."""
    digest = st.binary(min_size=32, max_size=32)
    v0 = digest.map(lambda value: Cid(multihash.wrap(multihash.SHA2_256, value)))
    common = st.builds(Cid.of, digest, st.sampled_from((codecs.RAW, codecs.DAG_PB)))
    v1 = st.builds(Cid.make, multihashes(), st.one_of(st.sampled_from(list(codecs.CODES.values())), _CODES))
    return st.one_of(common, v0, v1)


def peer_ids() -> st.SearchStrategy[PeerId]:
    """Peer ids of inlined keys and of hashed ones; the keys are bytes that no key has."""
    return st.binary(min_size=1, max_size=2 * MAX_INLINE_KEY).map(PeerId.from_public_key)


def multiaddrs() -> st.SearchStrategy[Multiaddr]:
    """Addresses of one to five components, of every protocol; a path only at the end."""
    return st.builds(
        lambda parts, path: Multiaddr.parse("".join(parts) + path),
        st.lists(_component_texts(), min_size=1, max_size=4),
        st.one_of(st.just(""), _names().map(lambda name: f"/unix/{name}/socket")),
    )


def _names() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8)


def _base32(size: int) -> st.SearchStrategy[str]:
    """The base32 of numbers of `size` bytes."""
    numbers = st.integers(0, (1 << 8 * size) - 1)
    return numbers.map(lambda number: b32encode(number.to_bytes(size, "big")).decode().lower().rstrip("="))


def _component_texts() -> st.SearchStrategy[str]:
    valueless = st.sampled_from([f"/{protocol.name}" for protocol in PROTOCOLS if not protocol.size])
    port_names = st.sampled_from(("tcp", "udp", "sctp", "dccp"))
    host_names = st.sampled_from(("dns", "dns4", "dns6", "dnsaddr", "sni", "ip6zone"))
    return st.one_of(
        valueless,
        st.builds("/{}/{}".format, port_names, st.integers(0, 0xFFFF)),
        st.builds("/{}/{}".format, host_names, _names()),
        st.ip_addresses().map(lambda address: f"/ip{address.version}/{address}"),
        st.builds("/ipcidr/{}".format, st.integers(0, 0xFF)),
        st.builds("/memory/{}".format, st.integers(0, (1 << 64) - 1)),
        peer_ids().map("/p2p/{}".format),
        st.builds("/onion/{}:{}".format, _base32(10), st.integers(1, 0xFFFF)),
        st.builds("/onion3/{}:{}".format, _base32(35), st.integers(1, 0xFFFF)),
        st.builds("/garlic32/{}".format, st.one_of(_base32(32), _base32(35), _base32(40))),
        st.binary(max_size=4).map(lambda end: f"/garlic64/{b64encode(bytes(386) + end, b'-~').decode()}"),
        st.builds("/http-path/%{:02X}{}".format, st.integers(0, 0xFF), st.sampled_from(("", "a+b", "%2Fa~b"))),
        multihashes().map(lambda value: f"/certhash/f{value.hex()}"),
    )

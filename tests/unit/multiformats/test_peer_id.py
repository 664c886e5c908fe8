import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multibase, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import MAX_INLINE_KEY, PeerId, PeerIdError
from tests.strategies import peer_ids

VECTORS = Path(__file__).parents[2] / "vectors" / "peer-id"
SPEC = json.loads((VECTORS / "spec_keys.json").read_text())
JS = json.loads((VECTORS / "js_sample_id.json").read_text())
IDS = {
    "ecdsa": "QmVMT29id3TUASyfZZ6k9hmNyc2nYabCo4uMSpDw4zrgDk",
    "ed25519": "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
    "secp256k1": "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY",
    "rsa": "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG",
}


@pytest.mark.parametrize("kind", SPEC["keys"])
def test_the_keys_of_the_spec_have_these_ids(kind: str) -> None:
    key = bytes.fromhex(SPEC["keys"][kind]["public"])
    peer = PeerId.from_public_key(key)
    assert str(peer) == IDS[kind]
    assert peer == PeerId.parse(IDS[kind])
    assert peer.public_key == (key if kind in ("ed25519", "secp256k1") else None)
    assert peer.matches(key)
    assert not peer.matches(key[:-1] + b"\0")


def test_an_id_made_by_js_libp2p_is_the_hash_of_its_key() -> None:
    peer = PeerId.from_public_key(base64.b64decode(JS["pubKey"]))
    assert peer.raw.hex() == JS["id"]


@pytest.mark.parametrize("text", SPEC["peer_id_examples"])
def test_base58_examples_of_the_spec_parse_and_print(text: str) -> None:
    assert str(PeerId.parse(text)) == text


def test_the_cid_example_of_the_spec_parses_and_prints() -> None:
    peer = PeerId.parse(SPEC["cid_example"])
    assert str(peer.to_cid()) == SPEC["cid_example"]
    assert peer == PeerId.from_cid(Cid.parse(SPEC["cid_example"]))


def test_ids_print_in_base36_as_ipns_names_do() -> None:
    text = "k51qzi5uqu5dhb6l8spkdx7yxafegfkee5by8h7lmjh2ehc2sgg34z7c15vzqs"  # of go-multiaddr's tests
    assert PeerId.parse("12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV").to_base36() == text


@given(peer_ids(), st.sampled_from([name for _code, name in multibase.BASES]))
def test_every_form_leads_back_to_the_id(peer: PeerId, base: str) -> None:
    assert PeerId.decode(peer.raw) == peer
    assert PeerId.parse(str(peer)) == PeerId.parse(peer.to_base36()) == peer
    assert PeerId.parse(peer.to_cid().encode(base)) == peer
    assert peer.to_cid().codec == codecs.LIBP2P_KEY


@given(st.binary(min_size=1, max_size=100))
def test_keys_are_inlined_up_to_42_bytes(key: bytes) -> None:
    peer = PeerId.from_public_key(key)
    assert (peer.public_key == key) == (len(key) <= MAX_INLINE_KEY)
    assert multihash.verify(key, peer.raw)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short"),
        (b"\x00\x00", "inline key of 0 bytes"),
        (b"\x00\x2b" + bytes(43), "inline key of 43 bytes"),
        (b"\x12\x1f" + bytes(31), "31 bytes instead of 32"),
        (b"\x11\x14" + bytes(20), "hash function sha1"),
        (b"\x12\x20" + bytes(33), "1 bytes follow"),
        (b"\x12\x20" + bytes(31), "cut short"),
    ],
)
def test_other_multihashes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PeerIdError, match=message):
        PeerId.decode(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty text"),
        ("1", "cut short"),
        ("Qm0", "not in its alphabet"),
        ("QmxoHT6iViN5xAjoz1VZ553cL31U9F94ht3QvWR1FrEbZY", "cut short"),
        ("bafybeievd6mwe6vcwnkwo3eizs3h7w3a34opszbyfxziqdxguhjw7imdve", "codec dag-pb instead of libp2p-key"),
        ("zQmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "codec dag-pb instead of libp2p-key"),
        ("example.com", "unknown multibase prefix 'e'"),
        ("1" * 2049, "longer than 2048 characters"),
    ],
)
def test_other_texts_are_refused_with_the_reason_and_a_hint(text: str, message: str) -> None:
    with pytest.raises(PeerIdError, match=message) as caught:
        PeerId.parse(text)
    assert "12D3Koo" in str(caught.value.hint)
    assert len(str(caught.value)) < 200


def test_an_empty_key_has_no_id() -> None:
    with pytest.raises(PeerIdError, match="public key is empty"):
        PeerId.from_public_key(b"")


@given(st.text(max_size=60) | st.text(max_size=60).map("1".__add__) | st.text(max_size=60).map("Qm".__add__))
def test_garbage_text_raises_only_peer_id_errors(text: str) -> None:
    try:
        peer = PeerId.parse(text)
    except PeerIdError:
        return
    assert PeerId.parse(str(peer)) == peer


@given(st.binary(max_size=50))
def test_garbage_bytes_raise_only_peer_id_errors(data: bytes) -> None:
    try:
        peer = PeerId.decode(data)
    except PeerIdError:
        return
    assert peer.raw == data


def test_a_peer_id_is_a_value() -> None:
    peer = PeerId.parse(IDS["ed25519"])
    assert {peer: 1}[PeerId.decode(peer.raw)] == 1
    assert repr(peer) == f"PeerId({IDS['ed25519']})"
    assert not hasattr(peer, "__dict__")

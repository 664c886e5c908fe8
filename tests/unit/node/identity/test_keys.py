import base64
import json
import pickle
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError, UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import (
    InvalidKeyError,
    KeyType,
    PrivateKey,
    PublicKey,
    SignatureError,
    generate_key,
)
from tests.unit.node.identity.key_pool import KEYS, SPEC, VECTORS, ed25519_key

GO = VECTORS / "go-libp2p-crypto"
GO_DATA = b"Libp2p is the _best_!"
JS = {**json.loads((VECTORS / "js_go_ed25519.json").read_text()), "rsa": None}
JS["rsa"] = json.loads((VECTORS / "js_go_rsa.json").read_text())["verify"]
IDS = {
    KeyType.ECDSA: "QmVMT29id3TUASyfZZ6k9hmNyc2nYabCo4uMSpDw4zrgDk",
    KeyType.ED25519: "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
    KeyType.SECP256K1: "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY",
    KeyType.RSA: "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG",
}
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def message(number: int, data: bytes) -> bytes:
    """Return the message PublicKey or PrivateKey, written by other means than the code under test."""
    head = bytes((0x08, number, 0x12))
    size = bytes((len(data),)) if len(data) < 128 else bytes((len(data) & 0x7F | 0x80, len(data) >> 7))
    return head + size + data


def spki(key: Any, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, form)
    return encoded


@pytest.mark.parametrize("kind", KeyType)
def test_the_key_pairs_of_the_spec_belong_together_and_have_these_ids(kind: KeyType) -> None:
    pair = SPEC[kind.name.lower()]
    private = PrivateKey.decode(bytes.fromhex(pair["private"]))
    public = PublicKey.decode(bytes.fromhex(pair["public"]))

    assert private.public_key == public
    assert private.type is public.type is kind
    assert str(private.peer_id) == str(public.peer_id) == IDS[kind]
    assert (private.encode().hex(), public.encode().hex()) == (pair["private"], pair["public"])


@pytest.mark.parametrize("kind", [KeyType.RSA, KeyType.SECP256K1, KeyType.ECDSA])
def test_what_go_libp2p_signed_is_verified(kind: KeyType) -> None:
    public = PublicKey.decode((GO / f"{kind:d}.pub").read_bytes())
    private = PrivateKey.decode((GO / f"{kind:d}.priv").read_bytes())
    signature = (GO / f"{kind:d}.sig").read_bytes()

    public.verify(GO_DATA, signature)

    assert private.public_key == public
    assert private.encode() == (GO / f"{kind:d}.priv").read_bytes()
    if kind is not KeyType.ECDSA:  # which Go signs with a random nonce
        assert private.sign(GO_DATA) == signature


@pytest.mark.parametrize("name", ["verify", "redundantPubKey"])
def test_ed25519_signatures_made_elsewhere_are_verified_and_made_again(name: str) -> None:
    vector = {field: bytes.fromhex(text) for field, text in JS[name].items()}
    private = PrivateKey.decode(vector["privateKey"])

    PublicKey.decode(vector["publicKey"]).verify(vector["data"], vector["signature"])

    assert private.sign(vector["data"]) == vector["signature"]
    assert private.public_key.encode() == vector["publicKey"]


def test_an_rsa_signature_made_elsewhere_is_verified() -> None:
    vector = {field: bytes.fromhex(text) for field, text in JS["rsa"].items()}
    PublicKey.decode(vector["publicKey"]).verify(vector["data"], vector["signature"])


@pytest.mark.parametrize("file", ["js_go_private_key.json", "js_sample_id.json"])
def test_a_private_key_of_another_implementation_leads_to_its_id(file: str) -> None:
    vector = json.loads((VECTORS / file).read_text())
    found = PrivateKey.decode(base64.b64decode(vector["privKey"])).peer_id
    assert vector["id"] in (str(found), found.raw.hex())


def test_the_early_ed25519_form_of_96_bytes_is_read_and_written_as_64() -> None:
    early = bytes.fromhex(JS["redundantPubKey"]["privateKey"])
    assert len(early) == 4 + 96
    assert PrivateKey.decode(early).encode() == message(1, early[4:68])


def test_an_ed25519_key_beside_another_public_key_is_refused() -> None:
    """Signing with such a pair gives the secret away."""
    mine, other = ed25519_key(1).encode()[4:], ed25519_key(2).encode()[4:]
    for data in (mine[:32] + other[32:], mine + other[32:], mine[:32] + other[32:] * 2):
        with pytest.raises(InvalidKeyError, match="does not match the public key beside it"):
            PrivateKey.decode(message(1, data))


@pytest.mark.parametrize("kind", KeyType)
def test_a_signature_holds_for_its_bytes_and_key_alone(kind: KeyType) -> None:
    key = KEYS[kind]
    signature = key.sign(b"data")

    key.public_key.verify(b"data", signature)

    with pytest.raises(SignatureError, match=str(key.peer_id)):
        key.public_key.verify(b"Data", signature)
    for other in KEYS.values():
        if other is not key:
            with pytest.raises(IntegrityError):
                other.public_key.verify(b"data", signature)


@pytest.mark.parametrize("kind", KeyType)
def test_signing_twice_gives_one_signature(kind: KeyType) -> None:
    assert KEYS[kind].sign(b"data") == KEYS[kind].sign(b"data")


@given(st.sampled_from(list(KeyType)), st.data())
def test_any_changed_bit_breaks_a_signature(kind: KeyType, data: st.DataObject) -> None:
    key = KEYS[kind]
    signature = bytearray(key.sign(b"data"))
    position = data.draw(st.integers(0, len(signature) * 8 - 1))
    signature[position // 8] ^= 1 << position % 8

    with pytest.raises(SignatureError):
        key.public_key.verify(b"data", bytes(signature))


@given(st.sampled_from(list(KeyType)), st.binary(max_size=600))
def test_garbage_is_no_signature(kind: KeyType, garbage: bytes) -> None:
    with pytest.raises(SignatureError):
        KEYS[kind].public_key.verify(b"data", garbage)


def test_of_the_two_secp256k1_signatures_only_that_with_the_low_s_counts() -> None:
    key = KEYS[KeyType.SECP256K1]
    r, s = decode_dss_signature(key.sign(b"data"))
    assert s <= SECP256K1_ORDER // 2

    with pytest.raises(SignatureError):
        key.public_key.verify(b"data", encode_dss_signature(r, SECP256K1_ORDER - s))


@given(st.integers(0, 2**200))
def test_every_secp256k1_signature_has_the_low_s(number: int) -> None:
    key, data = KEYS[KeyType.SECP256K1], number.to_bytes(26)
    assert decode_dss_signature(key.sign(data))[1] <= SECP256K1_ORDER // 2
    key.public_key.verify(data, key.sign(data))


@given(st.binary(max_size=200))
def test_garbage_is_no_key(garbage: bytes) -> None:
    for read in (PublicKey.decode, PrivateKey.decode):
        with pytest.raises(InvalidKeyError):
            read(garbage)


@given(st.sampled_from(list(KeyType)), st.booleans(), st.data())
def test_a_key_with_changed_bytes_is_refused_or_is_another_canonical_key(
    kind: KeyType, private: bool, data: st.DataObject
) -> None:
    key = KEYS[kind]
    encoded = bytearray(key.encode() if private else key.public_key.encode())
    for _ in range(data.draw(st.integers(1, 2))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = PrivateKey.decode(bytes(encoded)) if private else PublicKey.decode(bytes(encoded))
    except InvalidKeyError:
        return
    assert found.encode() == encoded


@given(st.integers(0, 2**256 - 1))
def test_every_ed25519_key_comes_back_whole(number: int) -> None:
    key = ed25519_key(number)
    assert PrivateKey.decode(key.encode()).encode() == key.encode()
    assert PublicKey.decode(key.public_key.encode()) == key.public_key
    assert key.peer_id.public_key == key.public_key.encode()


PUBLIC = KEYS[KeyType.ED25519].public_key.encode()
NOT_DETERMINISTIC = {
    "fields in the other order": PUBLIC[2:] + PUBLIC[:2],
    "type left out": PUBLIC[2:],
    "data left out": PUBLIC[:2],
    "a field more": PUBLIC + b"\x18\x00",
    "a field twice": PUBLIC[:2] + PUBLIC,
    "a longer varint of the type": b"\x08\x81\x00" + PUBLIC[2:],
    "a longer varint of the length": PUBLIC[:3] + b"\xa0\x00" + PUBLIC[4:],
    "a longer varint of the field": b"\x88\x00" + PUBLIC[1:],
    "a byte more": PUBLIC + b"\0",
    "a byte less": PUBLIC[:-1],
    "the type as bytes": b"\x0a\x01\x01" + PUBLIC[2:],
    "an unknown type": b"\x08\x04" + PUBLIC[2:],
    "a negative type": b"\x08" + b"\xff" * 9 + b"\x01" + PUBLIC[2:],
    "nothing": b"",
}


@pytest.mark.parametrize("what", NOT_DETERMINISTIC)
def test_only_the_deterministic_encoding_is_a_key(what: str) -> None:
    """Otherwise two peers could hold different ids of the same key."""
    with pytest.raises(InvalidKeyError):
        PublicKey.decode(NOT_DETERMINISTIC[what])


def test_type_0_is_written_out() -> None:
    assert KEYS[KeyType.RSA].public_key.encode()[:2] == b"\x08\x00"


def test_a_huge_key_is_refused_unread() -> None:
    with pytest.raises(InvalidKeyError, match="over 8192 bytes"):
        PublicKey.decode(b"\x08\x00\x12" + b"\xff" * 100_000)


P224 = ec.derive_private_key(7, ec.SECP224R1()).public_key()
P256 = ec.derive_private_key(7, ec.SECP256R1())
SECP256K1 = KEYS[KeyType.SECP256K1].public_key.handle
POINT = P256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
MALFORMED = {
    "an Ed25519 key of 31 bytes": (1, bytes(31)),
    "an uncompressed secp256k1 point": (
        2,
        SECP256K1.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
    ),
    "a secp256k1 point that is not on the curve": (2, b"\x02" + b"\xff" * 32),
    "secp256k1 under the number of ECDSA": (3, spki(SECP256K1)),
    "ECDSA under the number of RSA": (0, spki(P256.public_key())),
    "RSA under the number of ECDSA": (3, KEYS[KeyType.RSA].public_key.data),
    "a curve that peers do not know": (3, spki(P224)),
    "a compressed point in the DER": (3, bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + POINT),
    "RSA as PKCS#1": (0, spki(KEYS[KeyType.RSA].public_key.handle, PublicFormat.PKCS1)),
    "bytes after the DER": (0, KEYS[KeyType.RSA].public_key.data + b"\0"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_public_keys_are_read_strictly(what: str) -> None:
    number, data = MALFORMED[what]
    with pytest.raises(InvalidKeyError):
        PublicKey.decode(message(number, data))


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_ecdsa_keys_of_three_curves_are_taken(curve: type[ec.EllipticCurve]) -> None:
    key = PrivateKey(ec.derive_private_key(7, curve()))
    PublicKey.decode(key.public_key.encode()).verify(b"data", key.sign(b"data"))
    assert PrivateKey.decode(key.encode()) == key


def rsa_public(bits: int, exponent: int = 65537) -> bytes:
    """Return a message with a modulus of `bits` bits that nobody knows the factors of."""
    return message(0, spki(rsa.RSAPublicNumbers(exponent, (1 << bits) - 1).public_key()))


@pytest.mark.parametrize(
    ("bits", "exponent", "accepted"),
    [
        (2047, 65537, False),
        (2048, 65537, True),
        (8192, 65537, True),
        (8193, 65537, False),
        (2048, 3, True),
        (2048, 2**31 - 1, True),
        (2048, 2**31 + 11, False),
    ],
)
def test_rsa_keys_are_neither_too_weak_nor_too_costly(bits: int, exponent: int, accepted: bool) -> None:
    if accepted:
        assert PublicKey.decode(rsa_public(bits, exponent)).type is KeyType.RSA
    else:
        with pytest.raises(InvalidKeyError):
            PublicKey.decode(rsa_public(bits, exponent))


def test_a_weak_rsa_key_of_ours_is_refused_too() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    data = weak.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    with pytest.raises(InvalidKeyError, match="1024 bits"):
        PrivateKey.decode(message(0, data))


def test_private_keys_in_pkcs8_are_not_what_libp2p_writes() -> None:
    data = P256.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InvalidKeyError, match="not encoded as libp2p does"):
        PrivateKey.decode(message(3, data))


@pytest.mark.parametrize("data", [bytes(32), b"\xff" * 32, b"\1" * 31, b"\1" * 33])
def test_a_secp256k1_secret_out_of_range_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidKeyError):
        PrivateKey.decode(message(2, data))


@pytest.mark.parametrize("kind", KeyType)
def test_no_secret_is_shown(kind: KeyType) -> None:
    key = KEYS[kind]
    shown = repr(key) + str(key) + f"{key}" + repr(key.public_key)
    assert str(key.peer_id) in shown
    assert key.encode()[-16:].hex() not in shown
    assert len(shown) < 400
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


def test_keys_are_equal_and_hashed_by_their_bytes_and_do_not_change() -> None:
    key, again = ed25519_key(1), ed25519_key(1)
    assert {key.public_key, again.public_key, ed25519_key(2).public_key} == {key.public_key, ed25519_key(2).public_key}
    assert {key, again} == {key}
    assert key.public_key != key
    with pytest.raises(AttributeError):
        key.public_key.type = KeyType.RSA  # type: ignore[misc]
    with pytest.raises(AttributeError):
        key.public_key.note = 1  # type: ignore[attr-defined]


def test_the_peer_id_is_computed_once() -> None:
    public = ed25519_key(3).public_key
    assert public.peer_id is public.peer_id
    assert public.peer_id == PeerId.from_public_key(public.encode())


@pytest.mark.parametrize(("kind", "prefix"), [(KeyType.ED25519, "12D3KooW"), (KeyType.RSA, "Qm")])
def test_generated_keys_are_new_and_usable(kind: KeyType, prefix: str) -> None:
    key, other = generate_key(kind), generate_key(kind)
    assert key != other
    assert str(key.peer_id).startswith(prefix)
    PublicKey.decode(key.public_key.encode()).verify(b"data", PrivateKey.decode(key.encode()).sign(b"data"))


@pytest.mark.parametrize("bits", [0, 1024, 2047, 8193, 1 << 40])
def test_rsa_keys_that_peers_would_refuse_are_not_made(bits: int) -> None:
    with pytest.raises(UsageError, match=f"{bits} bits"):
        generate_key(KeyType.RSA, bits=bits)


@pytest.mark.parametrize("kind", [KeyType.SECP256K1, KeyType.ECDSA])
def test_other_types_are_not_made(kind: KeyType) -> None:
    with pytest.raises(UsageError, match="read but not made"):
        generate_key(kind)

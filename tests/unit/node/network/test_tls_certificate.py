"""Certificates: those of the specification and of other implementations, ours, and all that can be wrong with one."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network.tls_certificate import (
    EXTENSION_OID,
    SIGNATURE_PREFIX,
    CertificateError,
    make_certificate,
    verify_certificate,
)
from tests.unit.node.network.security_contract import ALICE, BOB, KEYS

VECTORS = Path(__file__).parents[3] / "vectors" / "libp2p-tls"
SPEC = json.loads((VECTORS / "spec_vectors.json").read_text())
JS = json.loads((VECTORS / "js_vectors.json").read_text())
RUST = sorted(path.stem for path in (VECTORS / "rust-libp2p").glob("*.der"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUST_VALID = datetime(2021, 12, 20, tzinfo=UTC)

P256 = ec.derive_private_key(1234567, ec.SECP256R1())
P384 = ec.derive_private_key(1234567, ec.SECP384R1())
CertificateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ed448.Ed448PrivateKey


def rsa_key() -> rsa.RSAPrivateKey:
    """Return the RSA key of the peer id vectors, here as a certificate's."""
    handle = KEYS["rsa"].handle
    assert isinstance(handle, rsa.RSAPrivateKey)
    return handle


def extension_of(host: PrivateKey, key: CertificateKey, prefix: bytes = SIGNATURE_PREFIX) -> bytes:
    """Return the extension's value, built here by hand."""
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sequence(host.public_key.encode(), host.sign(prefix + info))


def sequence(*strings: bytes) -> bytes:
    content = b"".join(b"\x04" + length_of(string) + string for string in strings)
    return b"\x30" + length_of(content) + content


def length_of(content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([size])
    return b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2)


def certificate(
    key: CertificateKey = P256,
    *,
    extension: bytes | None = None,
    others: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    algorithm: SHA256 | SHA384 | None = SHA256(),  # noqa: B008
    not_before: datetime = NOW - timedelta(days=1),
    not_after: datetime = NOW + timedelta(days=1),
    signer: CertificateKey | None = None,
    critical: bool = False,
    pss: bool = False,
    issuer: str = "somebody",
    subject: str = "somebody",
) -> bytes:
    """Return a certificate for BOB, right in all that is not asked to be otherwise."""
    by, of = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (issuer, subject))
    builder = x509.CertificateBuilder(by, of, key.public_key(), 7, not_before, not_after)
    for other, is_critical in others:
        builder = builder.add_extension(other, is_critical)
    value = extension_of(BOB, key) if extension is None else extension
    if value:
        builder = builder.add_extension(x509.UnrecognizedExtension(EXTENSION_OID, value), critical)
    scheme = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH) if pss else None
    return builder.sign(signer or key, algorithm, rsa_padding=scheme).public_bytes(Encoding.DER)


# ---- vectors ----


@pytest.mark.parametrize(
    ("encoded", "peer_id"),
    [(vector["cert_hex"], vector["peer_id"]) for vector in [*SPEC[:3], *JS[:3]]],
    ids=[*(vector["title"] for vector in SPEC[:3]), *(vector["name"] for vector in JS[:3])],
)
def test_valid_certificates_name_their_peers(encoded: str, peer_id: str) -> None:
    assert verify_certificate(bytes.fromhex(encoded), NOW).peer_id == PeerId.parse(peer_id)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (SPEC[3]["cert_hex"], "signature does not match"),
        (JS[3]["cert_hex"], "signature does not match"),
        (JS[4]["cert_hex"], "malformed"),
    ],
    ids=[SPEC[3]["title"], JS[3]["name"], JS[4]["name"]],
)
def test_invalid_certificates_are_refused(encoded: str, reason: str) -> None:
    with pytest.raises(CertificateError, match=reason):
        verify_certificate(bytes.fromhex(encoded), NOW)


def test_the_vectors_are_all_there() -> None:
    assert [vector["valid"] for vector in SPEC] == [True, True, True, False]
    assert len(JS) == 5
    assert len(RUST) == 11


@pytest.mark.parametrize("name", RUST)
def test_certificates_of_each_signature_scheme(name: str) -> None:
    """The self signature is checked first: whose extension alone is wrong had a scheme that we read."""
    der = (VECTORS / "rust-libp2p" / f"{name}.der").read_bytes()
    if name == "rsa_pss_sha384":
        verify_certificate(der, RUST_VALID)
        return
    unsupported = name in ("ed448", "nistp384_sha256", "nistp521_sha512")
    with pytest.raises(CertificateError, match="neither Ed25519" if unsupported else "signature does not match"):
        verify_certificate(der, RUST_VALID)


# ---- ours ----


@pytest.mark.parametrize("name", KEYS)
def test_our_certificate_proves_our_id(name: str) -> None:
    encoded = make_certificate(KEYS[name], P256).public_bytes(Encoding.DER)
    assert verify_certificate(encoded, NOW) == KEYS[name].public_key


def test_our_certificate_has_the_libp2p_extension_first_and_alone() -> None:
    made = make_certificate(ALICE, P256)
    (extension,) = made.extensions
    assert extension.oid.dotted_string == "1.3.6.1.4.1.53594.1.1"
    assert not extension.critical
    value = extension.value
    assert isinstance(value, x509.UnrecognizedExtension)
    assert value.value == extension_of(ALICE, P256)


def test_our_certificate_is_what_x509_wants() -> None:
    made = make_certificate(ALICE, P256)
    assert made.version is x509.Version.v3
    assert made.issuer == made.subject
    assert made.serial_number > 0
    assert make_certificate(ALICE, ec.derive_private_key(7, ec.SECP256R1())).serial_number != made.serial_number
    made.verify_directly_issued_by(made)
    for when in (datetime(1980, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)):
        verify_certificate(made.public_bytes(Encoding.DER), when)


# ---- other people's ----


@pytest.mark.parametrize(
    ("make_key", "algorithm", "pss"),
    [
        (lambda: P256, SHA256(), False),
        (lambda: P384, SHA384(), False),
        (lambda: ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)), None, False),
        (rsa_key, SHA256(), False),
        (rsa_key, SHA256(), True),
    ],
    ids=["P-256", "P-384", "Ed25519", "RSA", "RSA-PSS"],
)
@pytest.mark.parametrize("critical", [True, False])
def test_keys_of_several_kinds_are_taken(
    make_key: Callable[[], CertificateKey], algorithm: SHA256 | SHA384 | None, pss: bool, critical: bool
) -> None:
    encoded = certificate(make_key(), algorithm=algorithm, pss=pss, critical=critical)
    assert verify_certificate(encoded, NOW) == BOB.public_key


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (P384, SHA256()),
        (P256, SHA384()),
        (ec.derive_private_key(7, ec.SECP521R1()), SHA256()),
        (ec.derive_private_key(7, ec.SECP256K1()), SHA256()),
        (ed448.Ed448PrivateKey.from_private_bytes(bytes(57)), None),
    ],
    ids=["P-384 with sha2-256", "P-256 with sha2-384", "P-521", "secp256k1", "Ed448"],
)
def test_keys_that_tls_does_not_pair_with_the_hash_are_refused(
    key: CertificateKey, algorithm: SHA256 | SHA384 | None
) -> None:
    with pytest.raises(CertificateError, match="neither Ed25519"):
        verify_certificate(certificate(key, algorithm=algorithm), NOW)


def test_short_rsa_keys_are_refused() -> None:
    key = rsa.generate_private_key(65537, 1024)
    with pytest.raises(CertificateError, match="1024 bits"):
        verify_certificate(certificate(key), NOW)


def test_the_dates_count() -> None:
    encoded = certificate()
    verify_certificate(encoded, NOW + timedelta(days=1))
    for when in (NOW - timedelta(days=1, seconds=1), NOW + timedelta(days=1, seconds=1)):
        with pytest.raises(CertificateError, match="it is valid from"):
            verify_certificate(encoded, when)


def test_another_keys_signature_is_refused() -> None:
    with pytest.raises(CertificateError, match="not signed with its own key"):
        verify_certificate(certificate(signer=ec.derive_private_key(99, ec.SECP256R1())), NOW)


def test_a_changed_signature_is_refused() -> None:
    encoded = bytearray(certificate())
    encoded[-1] ^= 1
    with pytest.raises(CertificateError, match="not signed with its own key"):
        verify_certificate(bytes(encoded), NOW)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"?")


def test_an_unknown_critical_extension_is_refused() -> None:
    verify_certificate(certificate(others=((UNKNOWN, False),)), NOW)
    with pytest.raises(CertificateError, match=r"critical extension 1\.2\.3\.4\.5 is unknown"):
        verify_certificate(certificate(others=((UNKNOWN, True),)), NOW)


def test_critical_extensions_about_other_things_do_no_harm() -> None:
    others = (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (x509.SubjectAlternativeName([x509.DNSName("localhost")]), True),
    )
    assert verify_certificate(certificate(others=others), NOW) == BOB.public_key
    constraints = x509.NameConstraints([x509.DNSName("example.com")], None)
    with pytest.raises(CertificateError, match="is unknown"):
        verify_certificate(certificate(others=((constraints, True),)), NOW)


def test_the_libp2p_extension_must_be_there() -> None:
    with pytest.raises(CertificateError, match="no libp2p extension"):
        verify_certificate(certificate(extension=b""), NOW)


GOOD = extension_of(BOB, P256)


@pytest.mark.parametrize(
    "extension",
    [
        sequence(),
        sequence(BOB.public_key.encode()),
        sequence(BOB.public_key.encode(), b"", b""),
        GOOD + b"\0",
        GOOD[:-1],
        b"\x31" + GOOD[1:],
        b"\x30\x81" + GOOD[1:],  # a length that is not minimal
        b"\x30\x80" + GOOD[2:] + b"\0\0",  # BER's indefinite length
        b"\x30\x89" + bytes(8) + GOOD[1:],
        b"\x30",
        sequence(BOB.public_key.data, BOB.sign(b"?")),
        sequence(b"", b""),
    ],
)
def test_an_extension_of_another_form_is_refused(extension: bytes) -> None:
    with pytest.raises(CertificateError):
        verify_certificate(certificate(extension=extension), NOW)


def test_the_signature_must_be_over_prefix_and_key() -> None:
    other = ec.derive_private_key(99, ec.SECP256R1())
    for extension in (extension_of(BOB, other), extension_of(BOB, P256, prefix=b"")):
        with pytest.raises(CertificateError, match="signature does not match"):
            verify_certificate(certificate(extension=extension), NOW)


def test_a_large_certificate_is_refused() -> None:
    padding_extension = x509.UnrecognizedExtension(UNKNOWN.oid, bytes(16 * 1024))
    with pytest.raises(CertificateError, match="are over 16384"):
        verify_certificate(certificate(others=((padding_extension, False),)), NOW)


@given(position=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_changed_byte_never_names_another_peer(position: int, value: int) -> None:
    encoded = bytearray(GOOD_CERTIFICATE)
    encoded[position % len(encoded)] ^= value
    try:
        found = verify_certificate(bytes(encoded), NOW)
    except CertificateError:
        return
    # The count of unused bits in the signature's bit string, which the library does not look at, is covered by nothing.
    assert found == BOB.public_key


@pytest.mark.parametrize("version", [3, 6, 255])
def test_a_certificate_of_an_unknown_version_is_malformed(version: int) -> None:
    """The library has an error of its own for it, which is no ValueError."""
    marker = bytes.fromhex("a003020102")
    with pytest.raises(CertificateError, match="malformed"):
        verify_certificate(GOOD_CERTIFICATE.replace(marker, marker[:-1] + bytes((version,)), 1), NOW)


def test_a_serial_number_of_zero_is_refused_without_a_warning() -> None:
    serial = bytes.fromhex("a003020102020107")
    assert serial in GOOD_CERTIFICATE
    with pytest.raises(CertificateError, match="malformed"):
        verify_certificate(GOOD_CERTIFICATE.replace(serial, serial[:-1] + b"\0", 1), NOW)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_certificate_are_refused(data: bytes) -> None:
    with pytest.raises(CertificateError, match="malformed"):
        verify_certificate(data, NOW)


GOOD_CERTIFICATE = certificate()

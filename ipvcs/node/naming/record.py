"""An IPNS record: what a name points at, for how long, signed by the key that the name is a hash of.

    IpnsEntry { value = 1; signatureV1 = 2; validityType = 3; validity = 4; sequence = 5; ttl = 6; pubKey = 7;
                signatureV2 = 8; data = 9 }          data = dag-cbor { TTL, Value, Sequence, Validity, ValidityType }

What counts is `data`, and `signatureV2` over it. The fields 1 to 6 say the same again for readers of long ago; we write
them, as Kubo does, check that they agree, and believe none of them: `signatureV1` does not cover the sequence number,
so it is never verified.

Goals: a record that is accepted is kept and passed on as the very bytes that it came as, whatever else is in them.
Non-goals: what a value leads to, and which of several records a node should believe over time (`name_table.py`).

Spec: https://specs.ipfs.tech/ipns/ipns-record/
"""

from dataclasses import dataclass
from typing import Final, Self

from ipvcs.errors import DecodeError, IntegrityError, UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import InvalidKeyError, PrivateKey, PublicKey, SignatureError
from ipvcs.node.naming.validity import NS, ValidityError, format_validity, parse_validity
from ipvcs.objects import dag_cbor
from ipvcs.objects.data_model import Value
from ipvcs.objects.protobuf import BYTES, VARINT, encode_varint, iter_fields

MAX_RECORD: Final = 10 * 1024
"""Bytes. "IPNS implementations MUST support sending and receiving a serialized IpnsEntry less than or equal to 10 KiB"
and refuse larger ones before they look inside."""
MAX_SEQUENCE: Final = (1 << 64) - 1
"""The field is an uint64."""
MAX_TTL_NS: Final = (1 << 63) - 1
"""Go's time.Duration, 292 years."""

_SIGNATURE_DOMAIN: Final = b"ipns-signature:"
_EOL: Final = 0
"""The one validity type: `Validity` is the end of life."""
_V1_EOL: Final = b"EOL"
"""How signatureV1 writes that type."""

_VALUE, _SIGNATURE_V1, _VALIDITY_TYPE, _VALIDITY, _SEQUENCE, _TTL, _PUB_KEY, _SIGNATURE_V2, _DATA = range(1, 10)
_NAMES: Final = {
    _VALUE: "value",
    _SIGNATURE_V1: "signatureV1",
    _VALIDITY_TYPE: "validityType",
    _VALIDITY: "validity",
    _SEQUENCE: "sequence",
    _TTL: "ttl",
    _PUB_KEY: "pubKey",
    _SIGNATURE_V2: "signatureV2",
    _DATA: "data",
}
_NUMBERS: Final = frozenset((_VALIDITY_TYPE, _SEQUENCE, _TTL))
"""Fields that are varints; the others are bytes."""


class InvalidRecordError(DecodeError):
    """Bytes are not an IPNS record that anybody may use."""


class RecordSignatureError(InvalidRecordError, IntegrityError):
    """A record is not signed by the key of the name it was found under."""


class RecordExpiredError(InvalidRecordError):
    """A record was good once: its validity is over."""

    def __init__(self, validity: bytes) -> None:
        super().__init__(f"the record expired at {validity.decode('ascii', 'replace')}")
        self.validity = validity


class UnusableValueError(DecodeError):
    """A record is valid and points at nothing that we can follow."""

    def __init__(self, value: bytes) -> None:
        super().__init__(f"the record's value is no path below '/ipfs/' or '/ipns/': {value[:80]!r}")
        self.value = value


class RecordTooLargeError(UsageError):
    """A value does not fit into a record."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the record would have {size} bytes, more than {MAX_RECORD}", hint="publish a path with fewer components"
        )
        self.size = size


@dataclass(frozen=True, slots=True)
class IpnsRecord:
    """A record as it travels. Nothing in it is to be believed before `verify`."""

    raw: bytes
    """The bytes it came as: what is stored and passed on."""
    value: bytes
    sequence: int
    validity: bytes
    """RFC 3339, as it is written in the record."""
    expires_ns: int
    """The same in nanoseconds since 1970."""
    ttl_ns: int
    """For how long the owner would have it cached; untrusted and maybe enormous."""
    public_key: bytes | None
    """The embedded key's protobuf message, unparsed; None if the name holds the key."""
    data: bytes
    signature: bytes
    signature_v1: bytes

    @classmethod
    def sign(
        cls, key: PrivateKey, value: bytes, *, sequence: int, expires_ns: int, ttl_ns: int, legacy: bool = True
    ) -> Self:
        """Make the record by which the name of `key` points at `value`.

        Args:
            key: the name's key; a public one that the name cannot hold, as RSA's, is embedded.
            value: a path, `/ipfs/…` or `/ipns/…`.
            sequence: 0 to `MAX_SEQUENCE`; higher ones replace lower ones.
            expires_ns: end of its life, nanoseconds since 1970.
            ttl_ns: for how long it may be cached, nanoseconds.
            legacy: write the fields of the first version too, as Kubo does.

        Raises:
            RecordTooLargeError: `value` is too long.
            FarFutureError: no text says that end.
        """
        assert 0 <= sequence <= MAX_SEQUENCE
        assert 0 <= ttl_ns <= MAX_TTL_NS
        validity = format_validity(expires_ns)
        data = encode_data(value, sequence, validity, ttl_ns)
        fields: dict[int, bytes | int] = {_SIGNATURE_V2: key.sign(_SIGNATURE_DOMAIN + data), _DATA: data}
        if legacy:
            fields |= {
                _VALUE: value,
                _SIGNATURE_V1: key.sign(value + validity + _V1_EOL),
                _VALIDITY_TYPE: _EOL,
                _VALIDITY: validity,
                _SEQUENCE: sequence,
                _TTL: ttl_ns,
            }
        if key.peer_id.public_key is None:
            fields[_PUB_KEY] = key.public_key.encode()
        raw = encode_message(fields)
        if len(raw) > MAX_RECORD:
            raise RecordTooLargeError(len(raw))
        return cls.decode(raw)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a record. Fields and keys that we don't know are left alone.

        Raises:
            InvalidRecordError: over `MAX_RECORD`, malformed, without `data` or `signatureV2`, or the fields of the
                first version say something else.
        """
        if len(raw) > MAX_RECORD:
            raise InvalidRecordError(f"record of {len(raw)} bytes is over the limit of {MAX_RECORD}")
        fields = decode_message(raw)
        data, signature = _bytes(fields, _DATA), _bytes(fields, _SIGNATURE_V2)
        if not data or not signature:
            raise InvalidRecordError(
                "record has no data or no signatureV2: one of the first version alone proves nothing"
            )
        value, sequence, validity, ttl_ns = _decode_data(data)
        try:
            expires_ns = parse_validity(validity)
        except ValidityError as exc:
            raise InvalidRecordError(f"record's validity is {exc}") from exc
        if _bytes(fields, _SIGNATURE_V1) or _bytes(fields, _VALUE):
            # "In order to ensure backward compatibility … confirm that the values match": absent is 0 or empty.
            said = {_VALUE: value, _VALIDITY_TYPE: _EOL, _VALIDITY: validity, _SEQUENCE: sequence, _TTL: ttl_ns}
            for number, expected in said.items():
                absent: bytes | int = 0 if number in _NUMBERS else b""
                if fields.get(number, absent) != expected:
                    raise InvalidRecordError(f"record's field {_NAMES[number]} is not what its data says")
        return cls(
            raw=bytes(raw),
            value=value,
            sequence=sequence,
            validity=validity,
            expires_ns=expires_ns,
            ttl_ns=ttl_ns,
            public_key=_bytes(fields, _PUB_KEY) or None,
            data=data,
            signature=signature,
            signature_v1=_bytes(fields, _SIGNATURE_V1),
        )

    def verify(self, name: PeerId) -> None:
        """Return if the key of `name` signed the record; whether it has expired is `check_validity`'s matter.

        Raises:
            RecordSignatureError: it did not, or the embedded key is another's, or there is none and `name` holds none.
        """
        encoded = self.public_key if self.public_key is not None else name.public_key
        if encoded is None:
            raise RecordSignatureError(f"record of '{name.to_base36()}' lacks the public key")
        if not name.matches(encoded):
            raise RecordSignatureError(f"record's public key is not that of '{name.to_base36()}'")
        try:
            PublicKey.decode(encoded).verify(_SIGNATURE_DOMAIN + self.data, self.signature)
        except InvalidKeyError as exc:
            raise RecordSignatureError(f"record's public key can't be used: {exc}") from exc
        except SignatureError as exc:
            raise RecordSignatureError(f"record is not signed by the key of '{name.to_base36()}'") from exc

    def is_valid_at(self, now: float) -> bool:
        """Tell whether the record has not expired at `now`, seconds since 1970. The last instant is still good."""
        return self.expires_ns >= int(now * NS)

    def check_validity(self, now: float) -> None:
        """Return if the record has not expired at `now`, seconds since 1970. Raises RecordExpiredError."""
        if not self.is_valid_at(now):
            raise RecordExpiredError(self.validity)

    @property
    def path(self) -> str:
        """The value as a path; bytes that are not UTF-8 are surrogate escapes.

        Raises:
            UnusableValueError: it is none, as the bare hashes in records of long ago.
        """
        if not self.value.startswith((b"/ipfs/", b"/ipns/")):
            raise UnusableValueError(self.value)
        return self.value.decode("utf-8", "surrogateescape")

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """What decides between records of one name: the sequence number, then the later end, then the bytes."""
        return self.sequence, self.expires_ns, self.raw


def encode_data(value: bytes, sequence: int, validity: bytes, ttl_ns: int) -> bytes:
    """Return what is signed: the dag-cbor map, its keys by length as dag-cbor has them."""
    return dag_cbor.encode(
        {"TTL": ttl_ns, "Value": value, "Sequence": sequence, "Validity": validity, "ValidityType": _EOL}
    )


def encode_message(fields: dict[int, bytes | int]) -> bytes:
    """Return the protobuf message, fields in order. Zeros are written, as Kubo writes them."""
    out = bytearray()
    for number, value in sorted(fields.items()):
        if isinstance(value, bytes):
            out += encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
        else:
            out += encode_varint(number << 3 | VARINT) + encode_varint(value)
    return bytes(out)


def decode_message(raw: bytes) -> dict[int, bytes | int]:
    """Return the fields that we know.

    Raises:
        InvalidRecordError: not a protobuf message, a field of another type, or one that is there twice: readers do not
            agree on which of two counts.
    """
    fields: dict[int, bytes | int] = {}
    try:
        for number, wire_type, value in iter_fields(raw):
            if number not in _NAMES:
                continue
            if wire_type != (VARINT if number in _NUMBERS else BYTES):
                raise InvalidRecordError(f"record's field {_NAMES[number]} is of another type")
            if number in fields:
                raise InvalidRecordError(f"record's field {_NAMES[number]} is there twice")
            fields[number] = value
    except InvalidRecordError:
        raise
    except DecodeError as exc:
        raise InvalidRecordError(f"not an IPNS record: {exc}") from exc
    return fields


def _bytes(fields: dict[int, bytes | int], number: int) -> bytes:
    value = fields.get(number, b"")
    assert isinstance(value, bytes), "decode_message checked the type"
    return value


def _decode_data(data: bytes) -> tuple[bytes, int, bytes, int]:
    """Return (value, sequence, validity, TTL) of a record's dag-cbor map.

    Order of keys and widths of integers are not looked at, as Kubo does: the bytes are signed as they are.
    """
    try:
        found = dag_cbor.decode(data, strict=False)
    except DecodeError as exc:
        raise InvalidRecordError(f"record's data: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidRecordError("record's data is not a map")
    if found.get("ValidityType") != _EOL or isinstance(found.get("ValidityType"), (bool, float)):
        raise InvalidRecordError("record's ValidityType is not 0, the end of life")
    value, validity = found.get("Value"), found.get("Validity")
    if not isinstance(value, bytes) or not isinstance(validity, bytes):
        raise InvalidRecordError("record's Value or Validity is missing or not bytes")
    # A record of the second version alone may come without a TTL: that is 0, don't cache.
    return value, _number(found, "Sequence"), validity, _number(found, "TTL", 0)


def _number(found: dict[str, Value], key: str, absent: int | None = None) -> int:
    value = found.get(key, absent)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEQUENCE:
        raise InvalidRecordError(f"record's {key} is missing or no number below 2^64")
    return value

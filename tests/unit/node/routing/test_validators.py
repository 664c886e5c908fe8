"""Which rules a key has, and those of public keys; the keys are the specification's, the ids go-libp2p's."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.routing.interface import InvalidValueError
from ipvcs.node.routing.validators import PublicKeyValidator, UnknownNamespaceError, Validators
from tests.contracts.routing import VALIDATOR, NumberValidator

SPEC_KEYS = json.loads((Path(__file__).parents[3] / "vectors" / "peer-id" / "spec_keys.json").read_text())["keys"]
PUBLIC = {name: bytes.fromhex(pair["public"]) for name, pair in SPEC_KEYS.items()}
OTHER = generate_key().public_key


def key_of(public: bytes) -> bytes:
    return b"/pk/" + PeerId.from_public_key(public).raw


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_key_is_valid_under_its_own_id(name: str) -> None:
    VALIDATOR.validate(key_of(PUBLIC[name]), PUBLIC[name], 0)
    assert VALIDATOR.select(key_of(PUBLIC[name]), [PUBLIC[name]] * 2) == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_and_under_no_other(name: str) -> None:
    with pytest.raises(InvalidValueError, match="under the id of"):
        VALIDATOR.validate(b"/pk/" + OTHER.peer_id.raw, PUBLIC[name], 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(b"/pk/" + OTHER.peer_id.raw, b"", id="nothing"),
        pytest.param(b"/pk/" + OTHER.peer_id.raw, OTHER.encode() + b"\x18\x01", id="a field more"),
        pytest.param(b"/pk/" + OTHER.peer_id.raw, OTHER.encode()[:-1], id="cut short"),
        pytest.param(b"/pk/" + OTHER.peer_id.raw + b"x", OTHER.encode(), id="more than an id"),
        pytest.param(b"/pk/" + str(OTHER.peer_id).encode(), OTHER.encode(), id="the id as text"),
        pytest.param(b"/pk/\x12\x14" + bytes(20), OTHER.encode(), id="a short hash"),
    ],
)
def test_what_is_no_key_or_no_id_is_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(InvalidValueError):
        VALIDATOR.validate(key, value, 0)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"/",
        b"//",
        b"///",
        b"pk",
        b"/pk",
        b"/pk/",
        b"pk/x/y",
        b"/PK/x",
        b"/ipns/x",
        b"/v/hello",
        b"//pk/x",
        b"/pkx/y",
    ],
)
def test_a_key_outside_of_the_namespaces_is_refused(key: bytes) -> None:
    with pytest.raises(UnknownNamespaceError):
        VALIDATOR.validate(key, b"1", 0)
    with pytest.raises(UnknownNamespaceError):
        VALIDATOR.select(key, [b"1"])


def test_the_rules_get_the_whole_key_whatever_its_binary_part_holds() -> None:
    seen: list[bytes] = []

    class Rules(NumberValidator):
        def validate(self, key: bytes, value: bytes, now: float) -> None:
            seen.append(key)

    Validators({b"n": Rules()}).validate(b"/n//a/\x00/", b"", 0)
    assert seen == [b"/n//a/\x00/"]


def test_rules_of_public_keys_alone_know_no_other_namespace() -> None:
    with pytest.raises(UnknownNamespaceError):
        PublicKeyValidator().validate(OTHER.peer_id.raw, OTHER.encode(), 0)


@given(key=st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"/pk/" + rest), value=st.binary())
def test_garbage_raises_nothing_but_our_error(key: bytes, value: bytes) -> None:
    with suppress(InvalidValueError):
        VALIDATOR.validate(key, value, 0)

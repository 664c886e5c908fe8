import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import varint
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network import identify_message
from ipvcs.node.network.identify_message import (
    MAX_ADDRS,
    MAX_MESSAGE,
    MAX_MESSAGES,
    MAX_PROTOCOLS,
    OWN_MESSAGE,
    IdentifyMessage,
    IdentifyMessageError,
    IdentifyReader,
    decode_message,
    encode_messages,
)
from tests.strategies import multiaddrs

JS = json.loads((Path(__file__).parents[3] / "vectors" / "identify" / "js_identify.json").read_text())
ADDR = Multiaddr.parse("/ip4/192.168.1.2/tcp/4001")


def read(wire: bytes, cuts: Iterable[int] = ()) -> IdentifyMessage:
    reader = IdentifyReader()
    for cut in (*cuts, len(wire)):
        reader.receive_data(wire[:cut])
        wire = wire[cut:]
    reader.receive_data(wire)
    return reader.finish()


def frame(body: bytes) -> bytes:
    return varint.encode(len(body)) + body


def bodies(wire: bytes) -> list[bytes]:
    out = []
    while wire:
        size, start = varint.decode(wire)
        out.append(wire[start : start + size])
        wire = wire[start + size :]
    return out


@pytest.mark.parametrize("vector", JS["messages"], ids=lambda vector: str(vector["key_type"]))
def test_messages_made_by_js_libp2p_are_read(vector: dict[str, str]) -> None:
    message = read(frame(bytes.fromhex(vector["message"])))

    assert message.protocol_version == JS["protocolVersion"]
    assert message.agent_version == JS["agentVersion"]
    assert list(message.protocols) == JS["protocols"]
    assert list(map(str, message.listen_addrs)) == list(vector["addrs"])
    assert str(message.observed_addr) == JS["observedAddr"]
    assert message.signed_peer_record is not None
    assert message.signed_peer_record.hex() == vector["envelope"]
    assert message.public_key is not None


def versions() -> st.SearchStrategy[str]:
    printable = st.characters(codec="utf-8", categories=["L", "N", "P", "S"])
    return st.text(printable, max_size=identify_message.MAX_VERSION_LENGTH)


def messages() -> st.SearchStrategy[IdentifyMessage]:
    addrs = multiaddrs().filter(
        lambda addr: len(addr.raw) <= identify_message.MAX_ADDR_LENGTH
    )  # longer ones are skipped
    protocols = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
    return st.builds(
        IdentifyMessage,
        st.none() | st.binary(min_size=1, max_size=600),
        st.lists(addrs, max_size=30, unique=True).map(tuple),
        st.lists(protocols, max_size=60, unique=True).map(tuple),
        st.none() | addrs,
        st.none() | versions(),
        st.none() | versions(),
        st.none() | st.binary(min_size=1, max_size=2500),
    )


@given(message=messages(), cuts=st.lists(st.integers(0, 700), max_size=6))
def test_what_is_written_is_read_however_it_is_cut(message: IdentifyMessage, cuts: list[int]) -> None:
    assert read(encode_messages(message), cuts) == message


@given(message=messages())
def test_each_message_we_write_is_small_but_for_one_field_that_is_not(message: IdentifyMessage) -> None:
    for body in bodies(encode_messages(message)):
        one_field = max(len(message.signed_peer_record or b""), len(message.public_key or b""), OWN_MESSAGE - 4)
        assert len(body) <= one_field + 4


def test_a_small_message_is_one_and_a_large_one_has_its_record_in_the_last() -> None:
    small = IdentifyMessage(b"k" * 36, (ADDR,), ("/a", "/b"), ADDR, "v", "a", b"r" * 300)
    large = IdentifyMessage(b"k" * 300, (ADDR,) * 1, ("/a", "/b"), ADDR, "v", "a", b"r" * 1800)

    assert len(bodies(encode_messages(small))) == 1
    first, last = map(decode_message, bodies(encode_messages(large)))
    assert first == IdentifyMessage(b"k" * 300, (ADDR,), ("/a", "/b"), ADDR, "v", "a")
    assert last == IdentifyMessage(signed_peer_record=b"r" * 1800)


def test_the_record_is_by_itself_even_when_the_rest_takes_two_messages() -> None:
    protocols = tuple(f"/protocol/{number:03}/1.0.0" for number in range(60))
    large = IdentifyMessage(b"k" * 1500, protocols=protocols, signed_peer_record=b"r" * 100)

    parts = list(map(decode_message, bodies(encode_messages(large))))

    assert len(parts) == 3
    assert parts[-1] == IdentifyMessage(signed_peer_record=b"r" * 100)


def test_parts_are_merged_as_protobuf_merges() -> None:
    other = Multiaddr.parse("/ip4/10.0.0.1/tcp/1")
    first = IdentifyMessage(b"old", (ADDR,), ("/a", "/b"), ADDR, "1", "agent", b"r")
    second = IdentifyMessage(b"new", (other, ADDR), ("/b", "/c"), other, "2", None, None)

    merged = read(encode_messages(first) + encode_messages(second))

    assert merged == IdentifyMessage(b"new", (ADDR, other), ("/a", "/b", "/c"), other, "2", "agent", b"r")


def test_unknown_fields_and_unknown_addresses_are_passed_over() -> None:
    strange = b"\x12\x04\xff\xff\x7f\x00"  # listenAddrs: a protocol nobody has
    unreadable = b"\x22\x01\xff"  # observedAddr
    unknown = b"\x3a\x01x" + b"\x48\x05" + b"\x62\x02zz"  # fields 7, 9, 12
    not_utf8 = b"\x1a\x02\xff\xfe"
    body = (
        strange + unreadable + unknown + not_utf8 + bodies(encode_messages(IdentifyMessage(None, (ADDR,), ("/a",))))[0]
    )

    assert read(frame(body)) == IdentifyMessage(None, (ADDR,), ("/a",))


def test_texts_cannot_steer_a_terminal() -> None:
    body = b"\x32" + frame(b"kubo\x1b[2J\x07/0.1\n") + b"\x1a" + frame(b"/a\x1b]0;x")
    message = read(frame(body))

    assert message.agent_version == "kubo[2J/0.1"
    assert message.protocols == ()


def test_ten_thousand_protocols_and_addresses_are_cut_to_a_few() -> None:
    protocols = [f"/protocol/{number}" for number in range(10_000)]
    reader = IdentifyReader()
    per_message = MAX_MESSAGE // 24
    for start in range(0, per_message * MAX_MESSAGES, per_message):
        body = b"".join(b"\x1a" + frame(name.encode()) for name in protocols[start : start + per_message])
        assert len(body) <= MAX_MESSAGE
        reader.receive_data(frame(body))
    assert reader.finish().protocols == tuple(protocols[:MAX_PROTOCOLS])

    addrs = [Multiaddr.parse(f"/ip4/1.2.3.4/tcp/{port}") for port in range(700)]
    body = b"".join(b"\x12" + frame(addr.raw) for addr in addrs)
    assert read(frame(body) + frame(body)).listen_addrs == tuple(addrs[:MAX_ADDRS])


def test_names_and_addresses_that_are_too_long_are_left_out() -> None:
    long_addr = Multiaddr.parse("/unix/" + "a" * 600)
    body = b"\x12" + frame(long_addr.raw) + b"\x1a" + frame(b"/" + b"x" * 300) + b"\x32" + frame(b"a" * 5000)
    message = read(frame(body))

    assert message.listen_addrs == ()
    assert message.protocols == ()
    assert message.agent_version == "a" * identify_message.MAX_VERSION_LENGTH


def test_an_oversized_message_is_refused_before_it_arrives() -> None:
    reader = IdentifyReader()
    with pytest.raises(IdentifyMessageError, match="is over"):
        reader.receive_data(varint.encode(MAX_MESSAGE + 1))


def test_the_eleventh_message_is_refused() -> None:
    reader = IdentifyReader()
    for _ in range(MAX_MESSAGES):
        reader.receive_data(frame(b"\x1a\x02/a"))
    assert reader.finish().protocols == ("/a",)
    with pytest.raises(IdentifyMessageError, match="more than 10 messages"):
        reader.receive_data(b"\x01")


@pytest.mark.parametrize(
    ("wire", "match"),
    [
        (b"", "before"),
        (b"\x05abc", "inside"),
        (b"\x80", "inside"),
    ],
)
def test_an_early_end_is_an_error(wire: bytes, match: str) -> None:
    reader = IdentifyReader()
    reader.receive_data(wire)
    assert not reader.is_whole
    with pytest.raises(IdentifyMessageError, match=match):
        reader.finish()


@pytest.mark.parametrize("body", [b"\x08\x01", b"\x12\x09", b"\x0f", b"\x00\x00"])
def test_a_malformed_message_is_refused(body: bytes) -> None:
    with pytest.raises(IdentifyMessageError):
        decode_message(body)


@given(wire=st.binary(max_size=300), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_garbage_raises_only_our_error_and_cutting_changes_nothing(wire: bytes, cuts: list[int]) -> None:
    outcomes = []
    for some in ((), cuts):
        try:
            outcomes.append(str(read(wire, some)))
        except IdentifyMessageError as exc:
            outcomes.append(str(exc))
    assert outcomes[0] == outcomes[1]

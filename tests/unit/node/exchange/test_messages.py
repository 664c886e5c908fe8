"""Bitswap's messages: bytes written by hand after the specification, both ways, and what is no message.

Spec: https://specs.ipfs.tech/bitswap-protocol/#bitswap-1-2-0-wire-format
"""

from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs, varint
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange import messages
from ipvcs.node.exchange.messages import (
    BITSWAP_100,
    BITSWAP_110,
    BITSWAP_OLD,
    MAX_CID,
    BitswapError,
    Message,
    ReceivedBlock,
    WantEntry,
    WantType,
    block_size,
    decode,
    encode_answers,
    encode_wants,
    presence_size,
    want_size,
)
from ipvcs.node.network.interface import Buffer
from tests.strategies import cids

DIGEST = bytes(range(32))
RAW = Cid(b"\x01\x55\x12\x20" + DIGEST)
V0 = Cid(b"\x12\x20" + DIGEST)
SHA512 = Cid(b"\x01\x71\x13\x40" + DIGEST * 2)


def field(number: int, data: bytes) -> bytes:
    """A field of wire type BYTES, written here by other means than the code under test."""
    size = len(data)
    head = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return bytes((number << 3 | 2,)) + head + data


def joined(pieces: Sequence[Buffer]) -> bytes:
    return b"".join(map(bytes, pieces))


def undelimited(pieces: Sequence[Buffer]) -> bytes:
    """The message behind its length, which must be right."""
    data = joined(pieces)
    size, start = varint.decode(data)
    assert size == len(data) - start
    return data[start:]


def plain(message: Message) -> Message:
    """The message with tuples and bytes instead of lists and views, to compare."""
    blocks = [ReceivedBlock(each.prefix, memoryview(bytes(each.data))) for each in message.blocks]
    return Message(
        tuple(message.wants), message.full, tuple(blocks), tuple(message.haves), tuple(message.dont_haves),
        message.pending_bytes,
    )  # fmt: skip


# By hand


def test_a_wantlist_is_written_as_the_specification_says() -> None:
    entries = [
        WantEntry(RAW, WantType.BLOCK, 1),
        WantEntry(V0, WantType.HAVE, 300, send_dont_have=True),
        WantEntry(RAW, cancel=True, priority=0),
        WantEntry(RAW, WantType.HAVE, -1),
    ]
    raw, v0 = field(1, RAW.raw), field(1, V0.raw)
    expected = field(
        1,
        field(1, raw + b"\x10\x01")
        + field(1, v0 + b"\x10\xac\x02" + b"\x20\x01" + b"\x28\x01")
        + field(1, raw + b"\x18\x01")
        + field(1, raw + b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"\x20\x01")
        + b"\x10\x01",
    )
    assert encode_wants(entries, full=True) == expected
    assert plain(decode(expected)) == Message(tuple(entries), full=True)


def test_an_empty_full_wantlist_takes_all_back() -> None:
    assert encode_wants([], full=True) == bytes.fromhex("0a 02 10 01")
    assert plain(decode(bytes.fromhex("0a 02 10 01"))) == Message(full=True)
    assert encode_wants([]) == bytes.fromhex("0a 00")


def test_answers_are_written_as_the_specification_says() -> None:
    pieces = encode_answers([(RAW, b"hello"), (V0, b""), (SHA512, b"x")], [RAW], [V0, SHA512], 300)
    expected = (
        field(3, field(1, bytes.fromhex("01551220")) + field(2, b"hello"))
        + field(3, field(1, bytes.fromhex("00701220")) + field(2, b""))
        + field(3, field(1, bytes.fromhex("01711340")) + field(2, b"x"))
        + field(4, field(1, RAW.raw))
        + field(4, field(1, V0.raw) + b"\x10\x01")
        + field(4, field(1, SHA512.raw) + b"\x10\x01")
        + b"\x28\xac\x02"
    )
    assert undelimited(pieces) == expected
    message = plain(decode(expected))
    assert message.blocks == tuple(
        ReceivedBlock(bytes.fromhex(prefix), memoryview(data))
        for prefix, data in (("01551220", b"hello"), ("00701220", b""), ("01711340", b"x"))
    )
    assert (message.haves, message.dont_haves, message.pending_bytes) == ((RAW,), (V0, SHA512), 300)


@pytest.mark.parametrize("protocol", [BITSWAP_100, BITSWAP_OLD])
def test_before_1_1_a_cid_is_its_multihash_and_a_block_its_bytes(protocol: str) -> None:
    entries = [WantEntry(RAW, send_dont_have=True), WantEntry(RAW, cancel=True)]
    expected = field(
        1, field(1, field(1, V0.raw) + b"\x10\x01") + field(1, field(1, V0.raw) + b"\x10\x01" + b"\x18\x01")
    )
    assert encode_wants(entries, protocol=protocol) == expected
    assert [entry.cid for entry in decode(expected).wants] == [V0, V0]

    data = undelimited(encode_answers([(RAW, b"a"), (V0, b"b")], [RAW], [V0], 9, protocol=protocol))
    assert data == field(2, b"a") + field(2, b"b")
    assert [(each.prefix.hex(), bytes(each.data)) for each in decode(data).blocks] == [
        ("00701220", b"a"),
        ("00701220", b"b"),
    ]


def test_1_1_has_prefixes_but_no_presences() -> None:
    entry = WantEntry(RAW, send_dont_have=True)
    assert encode_wants([entry], protocol=BITSWAP_110) == field(1, field(1, field(1, RAW.raw) + b"\x10\x01"))
    data = undelimited(encode_answers([(RAW, b"a")], [RAW], [V0], 9, protocol=BITSWAP_110))
    assert data == field(3, field(1, bytes.fromhex("01551220")) + field(2, b"a"))


def test_a_want_for_have_is_never_written_for_who_would_take_it_for_the_block() -> None:
    with pytest.raises(AssertionError):
        encode_wants([WantEntry(RAW, WantType.HAVE)], protocol=BITSWAP_110)
    encode_wants([WantEntry(RAW, WantType.HAVE, cancel=True)], protocol=BITSWAP_110)


def test_an_empty_message_is_an_empty_message() -> None:
    assert joined(encode_answers([])) == b"\x00"
    assert plain(decode(b"")) == Message()


def test_large_blocks_are_neither_copied_nor_joined_and_views_lead_into_what_was_received() -> None:
    big = bytes(100_000)
    pieces = encode_answers([(RAW, b"small"), (RAW, big), (V0, big), (RAW, b"last")])
    assert sum(piece is big for piece in pieces) == 2
    data = undelimited(pieces)
    blocks = decode(data).blocks
    assert [len(each.data) for each in blocks] == [5, 100_000, 100_000, 4]
    assert all(each.data.obj is data for each in blocks)


# Others write it differently


def test_fields_in_any_order_repeated_or_unknown_are_read() -> None:
    entry = b"\x28\x01" + b"\x10\x07" + field(9, b"new") + b"\x20\x01" + field(1, RAW.raw)
    data = (
        b"\x28\x05"
        + field(4, b"\x10\x01" + field(1, RAW.raw))
        + field(1, b"\x10\x01" + field(1, entry))
        + b"\x5d1234"  # 11: fixed32
        + b"\x6112345678"  # 12: fixed64
        + field(13, b"?")
        + field(1, field(1, field(1, V0.raw)))
        + b"\x28\x06"
    )
    assert plain(decode(data)) == Message(
        wants=(WantEntry(RAW, WantType.HAVE, 7, send_dont_have=True), WantEntry(V0, priority=0)),
        full=True,
        dont_haves=(RAW,),
        pending_bytes=6,
    )


@pytest.mark.parametrize("priority", [-(2**31), -1, 0, 1, 2**31 - 1])
def test_priorities_are_signed(priority: int) -> None:
    assert decode(encode_wants([WantEntry(RAW, priority=priority)])).wants[0].priority == priority


@pytest.mark.parametrize(
    "cid",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"\x03\x55\x12\x20" + DIGEST, id="a version to come"),
        pytest.param(RAW.raw[:-1], id="cut short"),
        pytest.param(RAW.raw + b"\x00", id="too much"),
        pytest.param(b"\x01\x55\x12\x81\x01" + bytes(129), id="a digest too long"),
        pytest.param(b"\x01\x55\x12\x20" + bytes(MAX_CID), id="too long"),
    ],
)
def test_a_cid_that_can_not_be_read_costs_its_line_alone(cid: bytes) -> None:
    data = field(1, field(1, field(1, cid)) + field(1, field(1, RAW.raw))) + field(4, field(1, cid))
    assert plain(decode(data)) == Message(wants=(WantEntry(RAW, priority=0),))


def test_kinds_that_are_not_known_are_left_out() -> None:
    want = field(1, field(1, field(1, RAW.raw) + b"\x20\x02"))
    assert plain(decode(want + field(4, field(1, RAW.raw) + b"\x10\x02"))) == Message()


@pytest.mark.parametrize("pending", ["ffffffff0f", "ffffffffffffffffff01", "8080808008"])
def test_pending_bytes_that_are_negative_count_as_none(pending: str) -> None:
    assert decode(b"\x28" + bytes.fromhex(pending)).pending_bytes == 0


def test_pending_bytes_are_written_as_large_as_the_field_takes() -> None:
    assert decode(undelimited(encode_answers([], pending_bytes=2**40))).pending_bytes == 2**31 - 1


# No message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("0a", id="a length is missing"),
        pytest.param("0a05", id="the wantlist is cut short"),
        pytest.param("0a020a05", id="an entry is cut short"),
        pytest.param("0a040a020a05", id="a CID is cut short"),
        pytest.param("1205", id="a block is cut short"),
        pytest.param("1a020a05", id="a prefix is cut short"),
        pytest.param("1a021205", id="a payload is cut short"),
        pytest.param("22020a05", id="a presence is cut short"),
        pytest.param("28", id="a number is missing"),
        pytest.param("2880", id="a number is cut short"),
        pytest.param("28" + "ff" * 10 + "01", id="a number over 64 bits"),
        pytest.param("0b", id="a group"),
        pytest.param("0f", id="a wire type that there is not"),
        pytest.param("6561", id="a fixed32 is cut short"),
        pytest.param("6161", id="a fixed64 is cut short"),
        pytest.param("0a0100", id="a wantlist with a field 0"),
    ],
)
def test_what_is_no_message_is_one_error(data: str) -> None:
    with pytest.raises(BitswapError, match="not a Bitswap message: "):
        decode(bytes.fromhex(data))


def test_more_entries_than_are_read_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_ENTRIES", 3)
    three = [WantEntry(RAW)] * 3
    assert len(decode(encode_wants(three)).wants) == 3
    for data in (
        encode_wants([*three, *three]),
        encode_wants(three) + encode_wants(three),
        undelimited(encode_answers([(RAW, b"x")] * 4)),
        undelimited(encode_answers([], [RAW] * 4)),
        undelimited(encode_answers([], [], [RAW] * 4)),
    ):
        with pytest.raises(BitswapError, match="more than 3 entries"):
            decode(data)


@given(data=st.binary(max_size=200))
def test_garbage_raises_nothing_but_our_error(data: bytes) -> None:
    with suppress(BitswapError):
        decode(data)


# Properties

_entries = st.builds(
    WantEntry,
    cids(),
    st.sampled_from(WantType),
    st.integers(-(2**31), 2**31 - 1),
    send_dont_have=st.booleans(),
)
_cancels = st.builds(lambda cid, priority: WantEntry(cid, priority=priority, cancel=True), cids(), st.integers(0, 9))
_blocks = st.tuples(cids(), st.one_of(st.binary(max_size=40), st.integers(16_383, 16_385).map(bytes)))


@given(entries=st.lists(st.one_of(_entries, _cancels), max_size=8), full=st.booleans())
def test_a_wantlist_reads_as_it_was_written(entries: list[WantEntry], full: bool) -> None:
    data = encode_wants(entries, full=full)
    assert plain(decode(data)) == Message(tuple(entries), full)
    assert len(data) <= 8 + sum(map(want_size, entries))


@given(
    blocks=st.lists(_blocks, max_size=5),
    haves=st.lists(cids(), max_size=4),
    dont_haves=st.lists(cids(), max_size=4),
    pending=st.integers(0, 2**31 - 1),
)
def test_answers_read_as_they_were_written_and_are_as_large_as_announced_at_most(
    blocks: list[tuple[Cid, bytes]], haves: list[Cid], dont_haves: list[Cid], pending: int
) -> None:
    data = undelimited(encode_answers(blocks, haves, dont_haves, pending))
    message = plain(decode(memoryview(data)))
    assert message == Message(
        blocks=tuple(ReceivedBlock(cid.prefix, memoryview(data)) for cid, data in blocks),
        haves=tuple(haves),
        dont_haves=tuple(dont_haves),
        pending_bytes=pending,
    )
    announced = sum(block_size(cid, len(data)) for cid, data in blocks) + sum(map(presence_size, haves + dont_haves))
    assert len(data) <= announced + 6  # of `pendingBytes`


@given(data=st.binary(max_size=100), codec=st.sampled_from((codecs.RAW, codecs.DAG_PB, codecs.DAG_CBOR)))
def test_a_prefix_and_the_bytes_give_the_cid_back(data: bytes, codec: int) -> None:
    cid = Cid.of(sha256(data).digest(), codec)
    (block,) = decode(undelimited(encode_answers([(cid, data)]))).blocks
    assert Cid.decode(block.prefix + sha256(block.data).digest()) == cid


@given(
    entries=st.lists(_entries, max_size=3),
    blocks=st.lists(_blocks, max_size=2),
    cut=st.integers(0, 200),
    rest=st.binary(max_size=5),
)
def test_a_message_cut_or_damaged_anywhere_is_a_message_or_our_error(
    entries: list[WantEntry], blocks: list[tuple[Cid, bytes]], cut: int, rest: bytes
) -> None:
    data = encode_wants(entries) + undelimited(encode_answers(blocks, [RAW], [V0], 7))
    with suppress(BitswapError):
        decode(data[:cut] + rest)
    with suppress(BitswapError):
        decode(data[:cut] + rest + data[cut + len(rest) :])

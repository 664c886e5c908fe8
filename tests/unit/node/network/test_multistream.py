"""Negotiations, whole, byte by byte and with data behind; what a wrong or endless peer gets."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError, LocalProtocolError
from ipvcs.node.network.errors import ProtocolNotSupportedError
from ipvcs.node.network.multistream import (
    HEADER,
    MAX_MESSAGE,
    MAX_PROPOSALS,
    NOT_AVAILABLE,
    Initiator,
    LazyInitiator,
    NegotiationError,
    Responder,
    encode_message,
)

CAPTURES = Path(__file__).parents[3] / "vectors" / "multistream"
VECTORS = json.loads((CAPTURES / "vectors.json").read_text())
SECURITY = ("/noise", "/tls/1.0.0")


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return `data` cut at `cuts`, where a cut beyond its end is taken modulo its size."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def protocols() -> st.SearchStrategy[str]:
    """Protocol names, most of the short kind; never `na`, the refusal."""
    names = st.sampled_from(("/a", "/noise", "/tls/1.0.0", "/ipfs/kad/1.0.0", "ls", "/" + "x" * 300))
    return st.one_of(
        names, st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=40).filter("na".__ne__)
    )


CUTS = st.lists(st.integers(0, 2000), max_size=8)


# --- somebody else's bytes


def test_the_fixed_messages_are_those_of_the_spec() -> None:
    assert HEADER.hex() == VECTORS["header_hex"]
    assert NOT_AVAILABLE.hex() == VECTORS["na_hex"]


@pytest.mark.parametrize(
    ("capture", "agreed", "answer"),
    [
        ("mss-noise.bin", "/noise", HEADER + b"\x07/noise\n"),
        ("mss-tls.bin", "/tls/1.0.0", HEADER + b"\x0b/tls/1.0.0\n"),
        ("mss-plaintext.bin", None, HEADER + b"\x03na\n"),
    ],
)
def test_a_captured_initiator_is_answered_as_kubo_does(capture: str, agreed: str | None, answer: bytes) -> None:
    responder = Responder(SECURITY)
    responder.receive_data((CAPTURES / capture).read_bytes())
    assert (responder.result, responder.data_to_send()) == (agreed, answer)


@pytest.mark.parametrize(("capture", "protocol"), [("mss-noise.bin", "/noise"), ("mss-tls.bin", "/tls/1.0.0")])
def test_an_initiator_begins_as_the_captured_one(capture: str, protocol: str) -> None:
    assert Initiator([protocol]).data_to_send() == (CAPTURES / capture).read_bytes()
    assert LazyInitiator(protocol).opening == (CAPTURES / capture).read_bytes()


# --- two sides


@given(st.lists(protocols(), min_size=1, max_size=5), st.frozensets(protocols(), max_size=4), CUTS, CUTS, st.binary())
def test_two_sides_agree_on_the_first_that_both_speak(
    wanted: list[str], supported: frozenset[str], cuts: list[int], back_cuts: list[int], behind: bytes
) -> None:
    initiator, responder = Initiator(wanted), Responder(supported)
    expected = next((protocol for protocol in wanted if protocol in supported), None)
    refused: tuple[str, ...] = ()
    while initiator.result is None and not refused:
        for piece in split(initiator.data_to_send(), cuts):
            responder.receive_data(piece)
        answer = responder.data_to_send() + (behind if responder.result is not None else b"")
        try:
            for piece in split(answer, back_cuts):
                initiator.receive_data(piece)
        except ProtocolNotSupportedError as exc:
            refused = exc.protocols
    assert initiator.result == responder.result == expected
    assert refused == (() if expected is not None else tuple(wanted))
    assert initiator.rest == (behind if expected is not None else b"")
    assert initiator.data_to_send() == responder.data_to_send() == b""


@given(protocols(), st.binary(max_size=200), CUTS, CUTS)
def test_a_lazy_initiator_has_its_data_taken_with_the_proposal(
    protocol: str, data: bytes, cuts: list[int], back_cuts: list[int]
) -> None:
    lazy, responder = LazyInitiator(protocol), Responder({protocol})
    for piece in split(lazy.opening + data, cuts):
        responder.receive_data(piece)
    assert (responder.result, responder.rest) == (protocol, data)
    assert responder.data_to_send() == lazy.opening
    assert not lazy.done
    for piece in split(lazy.opening + data, back_cuts):
        lazy.receive_data(piece)
    assert (lazy.done, lazy.rest) == (True, data)


@pytest.mark.parametrize("place", range(len(HEADER) + len(b"\x03na\n\x03/b\nrest")))
def test_a_negotiation_cut_at_any_byte_ends_the_same(place: int) -> None:
    wire = HEADER + b"\x03na\n\x03/b\nrest"
    initiator = Initiator(["/a", "/b"])
    initiator.receive_data(wire[:place])
    initiator.receive_data(memoryview(wire)[place:])
    assert (initiator.result, initiator.rest) == ("/b", b"rest")


def test_after_a_refusal_the_next_is_proposed_without_a_second_header() -> None:
    initiator = Initiator(["/a", "/b"])
    assert initiator.data_to_send() == HEADER + b"\x03/a\n"
    initiator.receive_data(HEADER)
    assert initiator.data_to_send() == b""
    initiator.receive_data(NOT_AVAILABLE)
    assert initiator.data_to_send() == b"\x03/b\n"
    initiator.receive_data(b"\x03/b\n")
    assert initiator.result == "/b"


def test_a_responder_sends_its_header_before_it_heard_anything() -> None:
    assert Responder({"/a"}).data_to_send() == HEADER


def test_a_pipelined_proposal_is_answered_by_exactly_two_messages() -> None:
    responder = Responder({"/a"})
    responder.receive_data(HEADER + b"\x03/a\n")
    assert responder.data_to_send() == HEADER + b"\x03/a\n"


def test_ls_is_refused_like_an_unknown_protocol() -> None:
    responder = Responder({"/a"})
    responder.receive_data(HEADER + b"\x03ls\n\x03/a\n")
    assert responder.data_to_send() == HEADER + NOT_AVAILABLE + b"\x03/a\n"


def test_names_that_are_not_utf_8_or_empty_are_refused_like_unknown_ones() -> None:
    responder = Responder({"/a"})
    responder.receive_data(HEADER + b"\x03/\xff\n\x01\n")
    assert responder.data_to_send() == HEADER + 2 * NOT_AVAILABLE


def test_a_responder_may_decide_by_a_function() -> None:
    responder = Responder(lambda protocol: protocol.startswith("/x/"))
    responder.receive_data(HEADER + b"\x03/a\n\x04/x/\n..")
    assert (responder.result, responder.rest) == ("/x/", b"..")


def test_bytes_after_the_agreement_are_the_rest_whenever_they_come() -> None:
    responder, initiator = Responder({"/a"}), Initiator(["/a"])
    for side in responder, initiator:
        for piece in (HEADER + b"\x03/a\n\x00", b"\x00", b"more"):
            side.receive_data(piece)
        assert side.rest == b"\x00\x00more"


def test_a_name_of_the_largest_size_is_negotiated() -> None:
    name = "x" * (MAX_MESSAGE - 1)
    lazy, responder = LazyInitiator(name), Responder({name})
    responder.receive_data(lazy.opening)
    assert responder.result == name


# --- peers that do it wrong


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (HEADER + b"\x00", "empty"),
        (HEADER + b"\x81\x08", "more than 1024"),
        (HEADER + b"\xff\xff", "more than 1024"),
        (HEADER + b"\x83\x00", "not minimal"),
        (HEADER + b"\x03/a/", "newline"),
        (HEADER[:-1] + b"/", "does not speak"),
        (b"G", "does not speak"),
        (b"\x13/multistream/2", "does not speak"),
        (b"\x03", "does not speak"),
    ],
)
@pytest.mark.parametrize("side", [lambda: Initiator(["/a"]), lambda: Responder(["/a"]), lambda: LazyInitiator("/a")])
def test_a_violation_is_seen_at_its_first_byte(
    side: Callable[[], Initiator | Responder | LazyInitiator], wire: bytes, reason: str
) -> None:
    bytewise, whole = side(), side()
    for place in range(len(wire) - 1):
        bytewise.receive_data(wire[place : place + 1])
    with pytest.raises(NegotiationError, match=reason):
        bytewise.receive_data(wire[-1:])
    with pytest.raises(NegotiationError, match=reason):
        whole.receive_data(wire)


def test_an_echo_of_something_else_is_refused() -> None:
    initiator = Initiator(["/noise", "/tls/1.0.0"])
    with pytest.raises(NegotiationError, match=r"answered b'/tls/1\.0\.0' to '/noise'"):
        initiator.receive_data(HEADER + encode_message("/tls/1.0.0"))


def test_a_refused_lazy_initiator_says_so() -> None:
    with pytest.raises(ProtocolNotSupportedError, match="/a"):
        LazyInitiator("/a").receive_data(HEADER + NOT_AVAILABLE)


def test_an_initiator_that_proposes_for_ever_is_cut_off() -> None:
    responder = Responder({"/a"})
    responder.receive_data(HEADER + MAX_PROPOSALS * b"\x03/b\n")
    assert responder.data_to_send() == HEADER + MAX_PROPOSALS * NOT_AVAILABLE
    with pytest.raises(NegotiationError, match="proposals"):
        responder.receive_data(b"\x03/b\n")


def test_no_more_than_one_message_is_held() -> None:
    responder = Responder({"/a"})
    responder.receive_data(HEADER + b"\x80\x08")
    for _ in range(MAX_MESSAGE - 1):
        responder.receive_data(b"x")
    with pytest.raises(NegotiationError, match="newline"):
        responder.receive_data(b"x")


@pytest.mark.parametrize("wanted", [[], ["/a\n/b"], ["x" * MAX_MESSAGE]])
def test_what_cannot_be_proposed_is_our_own_error(wanted: list[str]) -> None:
    with pytest.raises(LocalProtocolError):
        Initiator(wanted)


@given(
    st.lists(
        st.one_of(st.sampled_from((HEADER, NOT_AVAILABLE, b"\x03/a\n", b"\x83\x00", b"\x03")), st.binary(max_size=30)),
        max_size=6,
    ).map(b"".join),
    CUTS,
)
def test_garbage_raises_only_our_errors_and_chunks_do_not_matter(wire: bytes, cuts: list[int]) -> None:
    outcomes = []
    for pieces in ([wire], split(wire, cuts), [wire[i : i + 1] for i in range(len(wire))]):
        for side in Initiator(["/b", "/a"]), Responder({"/a"}):
            outcome: list[object] = []
            try:
                for piece in pieces:
                    side.receive_data(piece)
                outcome.append(side.rest)
            except IpvcsError as exc:
                outcome.append((type(exc), str(exc)))
            outcomes.append([*outcome, side.result, side.data_to_send()])
    assert outcomes[0::2] == [outcomes[0]] * 3
    assert outcomes[1::2] == [outcomes[1]] * 3

"""The protocol of remote helpers, as transcripts of what git says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.helper_protocol import (
    CapabilitiesAsked,
    FetchAsked,
    HelperProtocol,
    HelperProtocolError,
    OptionGiven,
    PushAsked,
    PushSpec,
    RefsAsked,
    Request,
    SessionEnded,
    unquote,
)
from ipvcs.objects.git.object_id import ObjectId

OID = ObjectId(b"\xab" * 20)


def hear(*lines: bytes) -> list[Request]:
    protocol = HelperProtocol()
    return [request for line in lines if (request := protocol.receive_line(line)) is not None]


def test_a_clone() -> None:
    fetch = b"fetch " + OID.hex.encode() + b" "
    assert hear(
        b"capabilities",
        b"option progress true",
        b"option object-format true",
        b"list",
        b"option check-connectivity true",
        fetch + b"refs/heads/main",
        fetch + b"refs/tags/v 1",
        b"",
        b"",
    ) == [
        CapabilitiesAsked(),
        OptionGiven("progress", b"true"),
        OptionGiven("object-format", b"true"),
        RefsAsked(for_push=False),
        OptionGiven("check-connectivity", b"true"),
        FetchAsked(((OID, b"refs/heads/main"), (OID, b"refs/tags/v 1"))),
        SessionEnded(),
    ]


def test_a_push() -> None:
    assert hear(
        b"list for-push",
        b'option cas "refs/heads/\\377:' + OID.hex.encode() + b'"',
        b"push refs/heads/main:refs/heads/main",
        b"push +HEAD:refs/heads/\xff",
        b"push :refs/tags/old",
        b"",
    ) == [
        RefsAsked(for_push=True),
        OptionGiven("cas", b"refs/heads/\xff:" + OID.hex.encode()),
        PushAsked(
            (
                PushSpec(b"refs/heads/main", b"refs/heads/main", force=False),
                PushSpec(b"HEAD", b"refs/heads/\xff", force=True),
                PushSpec(b"", b"refs/tags/old", force=False),
            )
        ),
    ]


@pytest.mark.parametrize(
    "lines",
    [
        (b"import refs/heads/main",),
        (b"connect git-upload-pack",),
        (b"list for-fetch",),
        (b"fetch abc refs/heads/main",),
        (b"push refs/heads/main",),
        (b"push refs/heads/main:",),
        (b'option cas "x',),
        (b"option \xff x",),
        (b"push a:refs/heads/a", b"list"),
        (b"push a:refs/heads/a", b"fetch " + OID.hex.encode() + b" refs/heads/a"),
        (b"fetch " + OID.hex.encode() + b" refs/heads/a", b"option progress true"),
    ],
)
def test_what_is_not_in_the_protocol_is_refused(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(HelperProtocolError):
        hear(*lines)


def test_the_end_of_input_ends_the_session_but_no_batch() -> None:
    protocol = HelperProtocol()
    assert protocol.receive_end() == SessionEnded()
    protocol.receive_line(b"push a:refs/heads/a")
    with pytest.raises(HelperProtocolError, match="broke off"):
        protocol.receive_end()


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [
        (b"plain \\ value", b"plain \\ value"),
        (b'""', b""),
        (b'"a\\"b\\\\c\\n\\t\\a\\b\\v\\f\\r"', b'a"b\\c\n\t\a\b\v\f\r'),
        (b'"\\303\\251\\001"', b"\xc3\xa9\x01"),
    ],
)
def test_quoted_values(quoted: bytes, plain: bytes) -> None:
    assert unquote(quoted) == plain


@pytest.mark.parametrize(
    "value", [b'"', b'"a', b'"a"b', b'"\\"', b'"\\x41"', b'"\\40"', b'"\\400"', b'"\\08 "', b'"a\\']
)
def test_badly_quoted_values(value: bytes) -> None:
    with pytest.raises(ValueError, match="quoted"):
        unquote(value)


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_garbage_raises_only_our_errors(lines: list[bytes]) -> None:
    protocol = HelperProtocol()
    for line in lines:
        try:
            protocol.receive_line(line)
        except HelperProtocolError:
            return

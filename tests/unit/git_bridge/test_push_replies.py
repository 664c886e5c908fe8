"""What an owner says: as the pusher reads it, who trusts the owner no more than the owner trusts him."""

import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.push_fields import PushMessageError
from ipvcs.git_bridge.push_replies import (
    MAX_REFUSAL,
    MAX_REPLY,
    MAX_SENTENCE,
    MAX_TEXT,
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Standing,
    Text,
    decode_reply,
    encode_reply,
    kind_of_reply,
)
from ipvcs.git_bridge.push_requests import MAX_REQUEST, MAX_UPDATES
from ipvcs.git_bridge.refname import MAX_REFNAME
from ipvcs.multiformats.cid import Cid
from tests.unit.git_bridge.push_strategies import field, replies

CID = Cid.of(bytes(32))


@given(replies())
def test_decode_after_encode_is_the_identity(reply: Reply) -> None:
    data = encode_reply(reply)
    assert decode_reply(data) == reply
    assert kind_of_reply(data) is type(reply)


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_a_reply_and_never_a_crash(data: bytes) -> None:
    try:
        reply = decode_reply(data)
    except PushMessageError:
        return
    assert decode_reply(encode_reply(reply)) == reply


@given(replies(), st.data())
def test_a_damaged_reply_is_an_error_or_a_reply(reply: Reply, data: st.DataObject) -> None:
    raw = bytearray(encode_reply(reply))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with suppress(PushMessageError):
        decode_reply(bytes(raw))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(field(15, b"") * (MAX_REPLY // 2), id="empty fields that nobody knows"),
        pytest.param(field(4, field(1, b"") * (MAX_REPLY // 2 - 5)), id="empty results"),
        pytest.param(field(4, field(1, field(15, b"") * 400) * MAX_UPDATES), id="empty fields in results"),
        pytest.param(field(1, field(2, b"") * (MAX_REPLY // 2 - 5)), id="empty rights"),
        pytest.param(b"\xff" * MAX_REPLY, id="one varint"),
    ],
)
def test_what_fits_into_a_reply_and_is_none_is_refused_in_bounded_time_and_memory(data: bytes) -> None:
    assert len(data) <= MAX_REPLY
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(PushMessageError):
        decode_reply(data)
    seconds, (_now, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2, "tracing slows it down: without it takes a tenth"
    assert peak < 4 * MAX_REPLY


def test_the_largest_answer_that_an_offer_can_have_fits() -> None:
    size = (MAX_REQUEST - MAX_UPDATES * 27) // MAX_UPDATES  # a deletion has 27 bytes beside its name
    names = [b"%04d" % number + b"n" * (size - 4) for number in range(MAX_UPDATES)]
    answer = Answer(tuple(Result(name, "x" * MAX_REFUSAL, forced=True) for name in names), CID)
    data = encode_reply(answer)
    assert len(data) <= MAX_REPLY
    assert decode_reply(data) == answer
    longest = Answer(
        tuple(Result(b"n" * MAX_REFNAME, "x" * MAX_REFUSAL) for _ in range(MAX_REQUEST // MAX_REFNAME)), CID
    )
    assert len(encode_reply(longest)) <= MAX_REPLY


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "of no kind that is known"),
    "a kind of a later version": (field(6, b""), "of no kind that is known"),
    "two kinds": (field(2, b"") + field(3, b""), "of no kind that is known"),
    "a kind twice": (field(2, b"") * 2, "'progress' of the reply comes too often"),
    "a kind as a number": (b"\x08\x01", "'standing' of the reply is of another type"),
    "a text too long": (field(3, field(1, bytes(MAX_TEXT + 1))), "'text' of the text has 65,537 bytes"),
    "a stage that is no text": (field(2, field(1, b"\xff")), "'stage' of the progress is not UTF-8"),
    "a stage too long": (field(2, field(1, b"x" * 65)), "'stage' of the progress has 65 bytes"),
    "a right that is no text": (field(1, field(2, b"\xff")), "a right is not UTF-8"),
    "too many rights": (field(1, field(2, b"r") * 17), "'rights' of the standing comes too often"),
    "a repository that is no CID": (field(1, field(1, b"\x03")), "'repository' is not a CID"),
    "a refusal too long": (field(4, field(1, field(2, b"x" * 257))), "'refusal' of the result has 257 bytes"),
    "too many results": (field(4, field(1, b"") * (MAX_UPDATES + 1)), "'results' of the answer comes too often"),
    "a name too long": (field(4, field(1, field(1, b"x" * 4001))), "'name' of the result has 4,001 bytes"),
    "a message too long": (field(5, field(2, b"x" * 1025)), "'message' of the failure has 1,025 bytes"),
    "a hint too long": (field(5, field(3, b"x" * 1025)), "'hint' of the failure has 1,025 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_a_rule_is_refused_with_a_sentence_about_it(name: str) -> None:
    data, said = BAD[name]
    with pytest.raises(PushMessageError) as caught:
        decode_reply(data)
    assert said in str(caught.value)


def test_a_reply_of_more_than_four_megabytes_is_refused() -> None:
    for read in (decode_reply, kind_of_reply):
        with pytest.raises(PushMessageError, match=r"has 4,194,305 bytes"):
            read(bytes(MAX_REPLY + 1))


def test_fields_that_nobody_knows_are_skipped() -> None:
    later = field(9, b"later") + b"\x78\x01"
    data = later + field(2, later + field(1, b"stage")) + later
    assert decode_reply(data) == Progress("stage")
    assert kind_of_reply(data) is Progress


def test_the_kind_is_told_before_the_reply_is_read() -> None:
    assert kind_of_reply(field(4, b"\xff nonsense")) is Answer
    assert kind_of_reply(field(1, b"\xff nonsense")) is Standing


@given(st.text(max_size=3000), st.text(max_size=3000), st.text(max_size=3000))
def test_texts_of_any_length_and_characters_are_cut_to_what_the_other_side_takes(a: str, b: str, c: str) -> None:
    failure = decode_reply(encode_reply(Failure(FailureCode.FAILED, a, b)))
    assert isinstance(failure, Failure)
    for given_, taken, most in ((a, failure.message, MAX_SENTENCE), (b, failure.hint, MAX_SENTENCE)):
        if len(given_.encode("utf-8", "backslashreplace")) <= most:
            assert taken == given_.encode("utf-8", "backslashreplace").decode()
        else:
            assert taken.endswith("…")
    answer = decode_reply(encode_reply(Answer((Result(b"n", a),), None)))
    assert isinstance(answer, Answer)
    assert len((answer.results[0].refusal or "").encode()) <= MAX_REFUSAL
    progress = decode_reply(encode_reply(Progress(c)))
    assert isinstance(progress, Progress)
    assert len(progress.stage.encode()) <= 64


def test_a_file_name_that_is_no_text_is_told_with_escapes() -> None:
    assert decode_reply(encode_reply(Failure(FailureCode.FAILED, "cannot open 'a\udcff'"))) == Failure(
        FailureCode.FAILED, r"cannot open 'a\udcff'"
    )


def test_a_text_may_have_as_much_as_there_may_be() -> None:
    text = Text(b"\xff" * MAX_TEXT)
    assert decode_reply(encode_reply(text)) == text

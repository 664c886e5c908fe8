"""An owner as its pusher asks it: replies, refusals, and answers that get lost."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from ipvcs.client.client import DaemonLostError, RemoteCommandError
from ipvcs.errors import RemoteProtocolError
from ipvcs.git_bridge import remote_owner
from ipvcs.git_bridge.push_replies import (
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Standing,
    Text,
    encode_reply,
)
from ipvcs.git_bridge.push_requests import Offer, Update, decode_request
from ipvcs.git_bridge.ref_updates import Verdict
from ipvcs.git_bridge.remote_owner import AnswerLostError, Owner, PushRefusedError
from ipvcs.git_bridge.remote_push import _merge, printable, printable_lines
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

PEER = PeerId.parse("12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf")
MAIN = b"refs/heads/main"
OFFER = Offer((b"x",), b"k" * 16, ObjectFormat.SHA1, 1, "unixfs-v1-2025", (Update(MAIN, ObjectId(b"\1" * 20), None),))
ANSWER = Answer((Result(MAIN),), None)
CONNECTED = {"Stage": "connected", "Address": "/ip4/127.0.0.1/tcp/1"}
Step = Reply | dict[str, str] | Exception


class ScriptedClient:
    """Says, each time it is asked, the next of `scripts`."""

    def __init__(self, *scripts: list[Step]) -> None:
        self.scripts = list(scripts)
        self.asked: list[bytes] = []

    def stream(self, route: str, peer: str, *, lines: list[str]) -> Iterator[dict[str, Any]]:
        assert (route, peer) == ("push", str(PEER))
        self.asked.append(base64.b64decode(lines[0]))
        for step in self.scripts.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step if isinstance(step, dict) else {"Reply": base64.b64encode(encode_reply(step)).decode()}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_owner, "_PAUSE", 0.0)


def owner(*scripts: list[Step]) -> tuple[Owner, ScriptedClient]:
    client = ScriptedClient(*scripts)
    return Owner(client, PEER), client  # type: ignore[arg-type]


def test_replies_are_handed_on_up_to_the_end() -> None:
    replies: list[Step] = [CONNECTED, Progress("fetching", 1, 2), Text(b"hello\n"), ANSWER, Text(b"later\n")]
    asked, client = owner(replies)
    assert list(asked.offer(OFFER)) == replies[1:]
    assert [decode_request(each) for each in client.asked] == [OFFER]


def test_an_offer_whose_answer_got_lost_is_made_again_as_it_was() -> None:
    lost = DaemonLostError("push", "it closed the connection")
    asked, client = owner(
        [CONNECTED, Progress("publishing"), lost], [CONNECTED, RemoteCommandError("broke off")], [CONNECTED, ANSWER]
    )
    assert list(asked.offer(OFFER))[-1] == ANSWER
    assert len(set(client.asked)) == 1
    assert len(client.asked) == 3


def test_an_offer_that_was_sent_may_be_done_whatever_comes_after() -> None:
    """Nobody may say that nothing has changed."""
    gone = RemoteCommandError("cannot dial")
    asked, client = owner([CONNECTED, gone], [gone], [gone])
    with pytest.raises(AnswerLostError, match="cannot dial"):
        list(asked.offer(OFFER))
    assert len(client.asked) == 3


def test_an_offer_that_could_not_be_sent_is_not_tried_again() -> None:
    asked, client = owner([RemoteCommandError("cannot find")])
    with pytest.raises(RemoteCommandError, match="cannot find"):
        list(asked.offer(OFFER))
    assert len(client.asked) == 1


def test_what_post_receive_still_had_to_say_is_no_loss() -> None:
    asked, client = owner([CONNECTED, ANSWER, DaemonLostError("push", "gone")])
    assert list(asked.offer(OFFER)) == [ANSWER]
    assert len(client.asked) == 1


def test_a_refusal_is_an_error_with_the_owners_way_out() -> None:
    asked, _ = owner([CONNECTED, Failure(FailureCode.DENIED, "may not", "ask")])
    with pytest.raises(PushRefusedError, match="refuses: may not") as caught:
        asked.standing((b"x",))
    assert (caught.value.code, caught.value.hint) == (FailureCode.DENIED, "ask")


def test_an_answer_to_another_question_is_refused() -> None:
    asked, _ = owner([CONNECTED, Standing(None, frozenset({"create"}), 1, 1)])
    with pytest.raises(RemoteProtocolError):
        list(asked.offer(OFFER))
    asked, _ = owner([CONNECTED, ANSWER])
    with pytest.raises(RemoteProtocolError):
        asked.standing(())


def test_an_owners_words_drive_neither_terminal_nor_git() -> None:
    bad = "no\x1b]0;title\x07\nok refs/heads/other"
    (verdict,) = _merge([Verdict(MAIN)], Answer((Result(MAIN, bad),), None))
    assert verdict.refusal == printable(bad)
    assert not set(verdict.refusal or "") & set("\x1b\x07\n\r")
    assert list(printable_lines(b"one\x1b[2J\ntwo\xff\n")) == ["one�[2J", "two�"]

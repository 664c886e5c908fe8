"""The driver that Kubo's and Helia's share, against small scripts that play the peer."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.interop.json_peer import JsonPeer, PeerError

READY = 'import json, sys; print(json.dumps({"event": "ready"}), flush=True)\n'
REVERSED = READY + (
    "requests = [json.loads(sys.stdin.readline()) for _ in range(4)]\n"
    'for r in reversed(requests): print(json.dumps({"id": r["id"], "ok": True, "result": r["word"]}), flush=True)\n'
    "sys.stdin.read()"
)
SILENT = READY + "sys.stdin.read()"
DYING = READY + 'sys.stdin.readline(); sys.stderr.write("out of luck\\n"); sys.exit(3)'
STILLBORN = 'import sys; sys.exit("no such luck")'


def start(script: str, tmp_path: Path) -> JsonPeer:
    return JsonPeer("peer", [sys.executable, "-c", script], tmp_path / "log", cwd=tmp_path)


def test_answers_go_to_whoever_asked_in_whatever_order_they_come(tmp_path: Path) -> None:
    with start(REVERSED, tmp_path) as peer, ThreadPoolExecutor(4) as askers:
        answers = askers.map(lambda word: peer.request("say", within=20, word=word)["result"], "abcd")
        assert list(answers) == ["a", "b", "c", "d"]


def test_no_answer_in_time_is_a_timeout(tmp_path: Path) -> None:
    with start(SILENT, tmp_path) as peer, pytest.raises(TimeoutError, match="peer sleep: no answer in"):
        peer.request("sleep", within=0.05)


def test_a_peer_that_dies_fails_the_request_with_its_last_words(tmp_path: Path) -> None:
    with start(DYING, tmp_path) as peer:
        with pytest.raises(PeerError, match=r"(?s)the process ended.*out of luck"):
            peer.request("die", within=20)
        with pytest.raises(PeerError, match="the process ended"):
            peer.request("again", within=20)
    assert peer.exit_code == 3


def test_a_peer_that_never_gets_ready_fails_the_start_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"(?s)did not start.*no such luck"):
        start(STILLBORN, tmp_path)

"""The log of pushes and their answers: kept whole, numbered across processes, forgotten as promised."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipvcs.errors import DecodeError, LocalProtocolError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.storage import push_log
from ipvcs.storage.datastore import Datastore, open_datastore
from ipvcs.storage.home import Home
from ipvcs.storage.push_log import (
    ANSWER_LIFETIME,
    MAX_ANSWERS,
    MAX_KEY,
    LoggedPush,
    LoggedUpdate,
    PushLog,
    decode_push,
    encode_push,
)
from tests.strategies import cids, peer_ids

CHECKOUT = Path(__file__).parents[3]
ALICE, BOB = (PeerId.from_public_key(key) for key in (b"\x08\x01alice", b"b" * 43))
NOW = 1_800_000_000.25
UPDATES = (
    LoggedUpdate(b"refs/heads/main", bytes(20), b"\1" * 20),
    LoggedUpdate(b"refs/heads/\xff", b"", b"\2" * 32, forced=True),
    LoggedUpdate(b"refs/tags/v1", b"\3" * 20, b"", refusal="no right to delete refs here"),
)
PUSH = LoggedPush(1, NOW, ALICE, "/ip4/192.0.2.1/tcp/1", (b"team", b"p"), b"k" * 16, UPDATES, Cid.of(bytes(32)))

updates = st.builds(LoggedUpdate, st.binary(), st.binary(max_size=32), st.binary(max_size=32), st.booleans(), st.text())
pushes = st.builds(
    LoggedPush,
    number=st.integers(1, (1 << 63) - 1),
    time=st.floats(0, 2.5e11),
    pusher=peer_ids(),
    address=st.text(),
    path=st.lists(st.binary()).map(tuple),
    key=st.binary(min_size=1, max_size=MAX_KEY),
    updates=st.lists(updates, max_size=5).map(tuple),
    repository=st.none() | cids(),
    failure=st.text(),
)


@pytest.fixture
def log(home: Home) -> PushLog:
    return PushLog(home.datastore)


def key(number: int) -> bytes:
    return number.to_bytes(16)


def append(log: PushLog, number: int = 0, time: float = NOW, answer: bytes | None = None, **other: Any) -> LoggedPush:
    """Log a push with the key `key(number)`."""
    about = {"pusher": ALICE, "address": "", "path": (), "updates": (), **other}
    return log.append(time=time, key=key(number), answer=answer, **about)


def sizes(datastore: Datastore) -> tuple[int, int, int]:
    """Return how many rows the log, the answers and their keys have."""
    with datastore.read() as txn:
        tables = (datastore.push_log, datastore.push_answers, datastore.push_keys)
        return tuple(txn.stat(table)["entries"] for table in tables)  # type: ignore[return-value]


def test_what_is_appended_is_read_back_the_newest_first_and_after_reopening(log: PushLog, home: Home) -> None:
    first = log.append(
        time=PUSH.time, pusher=PUSH.pusher, address=PUSH.address, path=PUSH.path, key=PUSH.key,
        updates=PUSH.updates, repository=PUSH.repository,
    )  # fmt: skip
    assert first == PUSH
    second = append(log, pusher=BOB, failure="no space left")
    assert second == LoggedPush(2, NOW, BOB, "", (), key(0), (), None, "no space left")
    assert list(log.iter_newest()) == list(PushLog(home.datastore).iter_newest()) == [second, first]
    assert list(log.iter_newest(1)) == [second]
    assert list(log.iter_newest(0)) == []


@given(pushes)
def test_a_row_says_all_of_a_push_but_its_number(push: LoggedPush) -> None:
    row = encode_push(push)
    assert decode_push(push.number, row) == push
    assert decode_push(7, row) == replace(push, number=7)


def damage(push: LoggedPush, at: int, value: int, cut: bool) -> bytes:
    """Return the row of a push with one byte changed, or cut off there."""
    row = encode_push(push)
    at %= len(row)
    return row[:at] if cut else row[:at] + bytes((value,)) + row[at + 1 :]


@given(st.binary(max_size=80) | st.builds(damage, pushes, st.integers(0, 1 << 16), st.integers(0, 255), st.booleans()))
def test_damaged_rows_raise_nothing_but_our_errors(row: bytes) -> None:
    try:
        push = decode_push(1, row)
    except DecodeError:
        return
    assert decode_push(1, encode_push(push)) == push


def test_text_that_is_none_does_not_keep_a_push_from_being_logged(log: PushLog) -> None:
    update = LoggedUpdate(b"x", b"", b"", refusal="\ud800")
    append(log, address="\udcff", updates=[update], failure="a\0b")
    [push] = log.iter_newest()
    assert (push.address, push.updates[0].refusal, push.failure) == ("\\udcff", "\\ud800", "a\0b")


@pytest.mark.parametrize(
    "bad", [{"key": b""}, {"key": b"k" * (MAX_KEY + 1)}, {"time": -1.0}, {"time": float("nan")}, {"time": 1e12}]
)
def test_what_could_not_be_read_back_is_not_logged(log: PushLog, home: Home, bad: dict[str, Any]) -> None:
    about: dict[str, Any] = {"time": NOW, "pusher": ALICE, "address": "", "path": (), "key": b"k", "updates": ()}
    with pytest.raises(LocalProtocolError):
        log.append(**(about | bad))
    assert sizes(home.datastore) == (0, 0, 0)
    assert log.find_answer(ALICE, bad.get("key", b"k"), NOW) is None


def test_an_answer_is_found_by_who_pushed_and_by_the_key_alone(log: PushLog) -> None:
    append(log, 1, answer=b"done")
    append(log, 2, answer=b"")
    append(log, 3)
    assert log.find_answer(ALICE, key(1), NOW) == b"done"
    assert log.find_answer(ALICE, key(2), NOW) == b""
    assert log.find_answer(ALICE, key(3), NOW) is None
    assert log.find_answer(BOB, key(1), NOW) is None
    assert log.find_answer(ALICE, key(1)[:-1], NOW) is None


def test_an_answer_is_forgotten_after_a_day_and_the_log_is_not(log: PushLog, home: Home) -> None:
    append(log, 1, NOW, b"one")
    append(log, 2, NOW + 10, b"two")
    assert log.find_answer(ALICE, key(1), NOW + ANSWER_LIFETIME) == b"one"
    assert log.find_answer(ALICE, key(1), NOW + ANSWER_LIFETIME + 1) is None
    append(log, 3, NOW + ANSWER_LIFETIME + 1)
    assert sizes(home.datastore) == (3, 1, 1)
    assert log.find_answer(ALICE, key(1), NOW) is None
    assert log.find_answer(ALICE, key(2), NOW + ANSWER_LIFETIME + 1) == b"two"
    append(log, 4, NOW + 2 * ANSWER_LIFETIME)
    assert sizes(home.datastore) == (4, 0, 0)


def test_the_last_thousand_answers_are_kept(log: PushLog, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ANSWERS == 1000
    monkeypatch.setattr(push_log, "MAX_ANSWERS", 3)
    for number in (3, 0, 4, 1, 2):
        append(log, number, answer=b"%d" % number)
        append(log, 100 + number)  # what has no answer takes no place
    assert sizes(home.datastore) == (10, 3, 3)
    assert [log.find_answer(ALICE, key(number), NOW) for number in range(5)] == [None, b"1", b"2", None, b"4"]


def test_a_key_that_is_answered_again_has_the_newer_answer_alone(log: PushLog, home: Home) -> None:
    append(log, 1, answer=b"old")
    append(log, 2, answer=b"other")
    append(log, 1, answer=b"new")
    assert log.find_answer(ALICE, key(1), NOW) == b"new"
    assert sizes(home.datastore) == (3, 2, 2)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([0, 0, 0, 1, 8, 30, -2]),
            st.sampled_from([ALICE, BOB]),
            st.none() | st.binary(max_size=3),
        ),
        min_size=10,
        max_size=25,
    )
)
@settings(max_examples=25)
def test_answers_are_those_of_a_model(steps: list[tuple[int, int, PeerId, bytes | None]]) -> None:
    """Also when the clock is set back: `steps` are (key, hours that pass, pusher, answer)."""
    model: dict[tuple[PeerId, bytes], tuple[int, float, bytes]] = {}
    now = NOW
    with temporary_log() as log:
        for count, (number, hours, pusher, answer) in enumerate(steps):
            now += hours * 3600
            append(log, number, now, answer, pusher=pusher)
            if answer is not None:
                model[pusher, key(number)] = (count, now, answer)
            model = {each: kept for each, kept in model.items() if now - kept[1] <= ANSWER_LIFETIME}
            model = dict(sorted(model.items(), key=lambda item: item[1][0])[-4:])
            for who in (ALICE, BOB):
                for each in range(6):
                    kept = model.get((who, key(each)))
                    assert log.find_answer(who, key(each), now) == (None if kept is None else kept[2])
        assert [push.number for push in log.iter_newest()] == list(range(len(steps), 0, -1))


@contextmanager
def temporary_log() -> Iterator[PushLog]:
    """Yield one log, of which four answers are kept."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ipvcs-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as path,
    ):
        patch.setattr(push_log, "MAX_ANSWERS", 4)
        datastore = open_datastore(Path(path), make=True)
        try:
            yield PushLog(datastore)
        finally:
            datastore.close()


def test_push_and_answer_are_written_together_or_not_at_all(
    log: PushLog, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, 1, answer=b"one")
    with monkeypatch.context() as patch:
        patch.setattr(PushLog, "_forget_answers", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            append(log, 2, answer=b"two")
    assert sizes(home.datastore) == (1, 1, 1)
    assert append(log, 2, answer=b"two").number == 2


def test_a_push_is_durable_even_where_blocks_need_not_be(
    log: PushLog, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int, int]] = []
    monkeypatch.setattr(Datastore, "sync_now", lambda self: synced.append(sizes(self)))
    append(log, 1, answer=b"one")
    assert synced == [(1, 1, 1)]


def test_threads_that_append_at_once_get_numbers_of_their_own(log: PushLog) -> None:
    numbers: list[int] = []

    def push() -> None:
        numbers.extend(append(log).number for _ in range(10))

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 41))
    assert len(list(log.iter_newest())) == 40


def test_processes_that_append_at_once_get_numbers_of_their_own(log: PushLog, home: Home) -> None:
    code = (
        "import sys, pathlib\n"
        "from ipvcs.multiformats.peer_id import PeerId\n"
        "from ipvcs.storage.datastore import open_datastore\n"
        "from ipvcs.storage.push_log import PushLog\n"
        "log = PushLog(open_datastore(pathlib.Path(sys.argv[1])))\n"
        "about = dict(time=1.8e9, pusher=PeerId.parse(sys.argv[2]), address='', path=(), updates=())\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "for number in range(30): print(log.append(key=b'%d' % number, answer=b'', **about).number)"
    )
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home.path / "datastore"), str(pusher)],
            cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for pusher in (ALICE, BOB)
    ]  # fmt: skip
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        for other in others:
            assert other.stdin is not None
            other.stdin.close()
        numbers = [append(log, 1000 + number).number for number in range(30)]
        for other in others:
            assert other.stdout is not None
            numbers += map(int, other.stdout.read().split())
            assert other.wait(60) == 0
    finally:
        for other in others:
            other.kill()
            other.wait()
            for pipe in (other.stdin, other.stdout):
                assert pipe is not None
                pipe.close()
    assert sorted(numbers) == list(range(1, 91))
    assert [push.number for push in log.iter_newest()] == list(range(90, 0, -1))
    assert sizes(home.datastore) == (90, 60, 60)


@pytest.mark.parametrize(("rows", "size", "first"), [(2, 1 << 20, 2), (100, 1, 1), (100, 70, 2), (100, 1 << 20, 7)])
def test_the_log_is_read_in_slices_and_nothing_is_missed_or_read_twice(
    log: PushLog, monkeypatch: pytest.MonkeyPatch, rows: int, size: int, first: int
) -> None:
    monkeypatch.setattr(push_log, "_SLICE_ROWS", rows)
    monkeypatch.setattr(push_log, "_SLICE_BYTES", size)
    for number in range(7):
        append(log, number)
    assert len(log._read_slice(None)) == first
    reading = log.iter_newest()
    assert next(reading).number == 7
    append(log, 8)  # meanwhile, which waits for no reader
    assert [push.number for push in reading] == [6, 5, 4, 3, 2, 1]
    assert [push.number for push in log.iter_newest(3)] == [8, 7, 6]


def test_damaged_rows_are_passed_over_and_not_counted(
    log: PushLog, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    append(log, 1)
    append(log, 2)
    good = encode_push(PUSH)
    bad = {
        (3).to_bytes(8): b"", (4).to_bytes(8): good[:-1], (5).to_bytes(8): good[9:],
        (6).to_bytes(8): good + b"\x50\x01", bytes(8): good, b"\xff" * 8: good,
        b"short": good, b"longer than that": good,
    }  # fmt: skip
    with home.datastore.write() as txn:
        for name, row in bad.items():
            txn.put(name, row, db=home.datastore.push_log)
    assert [push.number for push in log.iter_newest(2)] == [push.number for push in log.iter_newest()] == [2, 1]
    assert all(f"passed over a damaged entry of the push log, {name.hex()}: " in caplog.text for name in bad)
    assert append(log, 3).number == 7, "no row is written over"
    assert sizes(home.datastore)[0] == len(bad) + 3
    assert [push.number for push in log.iter_newest()] == [7, 2, 1]


def test_damaged_answers_are_none_and_go_with_the_next_push(log: PushLog, home: Home) -> None:
    for number in range(4):
        append(log, number, answer=b"x")
    store = home.datastore
    with store.write() as txn:
        for number, row in enumerate([b"", bytes(15), (3).to_bytes(8) + b"\xff" * 8]):
            txn.put(ALICE.raw + key(number), row, db=store.push_keys)
        txn.delete((4).to_bytes(8), db=store.push_answers)
        txn.put(b"nobody's", b"x", db=store.push_answers)
    assert [log.find_answer(ALICE, key(number), NOW) for number in range(4)] == [None] * 4
    append(log, 9, answer=b"y")
    assert log.find_answer(ALICE, key(9), NOW) == b"y"
    assert sizes(store) == (5, 1, 2)

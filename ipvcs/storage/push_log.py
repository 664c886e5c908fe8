"""The owner's log of pushes, and what was answered, so that a push whose answer got lost is not done twice.

    push_log      number of the push -> Push
    push_answers  number of the push -> what it was answered, as the protocol has it
    push_keys     peer id of the pusher, key of the push -> its number, its time

    Push   { time = 1 double; pusher = 2 bytes, peer id; address = 3 string; path = 4 repeated bytes; key = 5 bytes;
             updates = 6 repeated Update; repository = 7 bytes, CID; failure = 8 string }
    Update { name = 1 bytes; old = 2 bytes; new = 3 bytes; forced = 4 bool; refusal = 5 string }

Numbers are 8 bytes, big-endian, from 1 on; instants are doubles, little-endian, in seconds since 1970. Push and Update
are protobufs of our own.

The log only grows: rows are not changed, and nothing deletes them. Answers are forgotten after a day, and when there
are more than a thousand. A push and its answer are written in one transaction: what is answered is logged, and a kill
leaves both or neither.

Spec: docs/protocols/push.md, "What the owner does with an offer" 1 and 8, and "Bounds"
"""

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import lmdb

from ipvcs.errors import DecodeError, LocalProtocolError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.objects.protobuf import BYTES, FIXED64, VARINT, ProtobufError, encode_varint, iter_fields
from ipvcs.storage.datastore import Datastore

_log = logging.getLogger(__name__)

MAX_ANSWERS: Final = 1000
"""Answers that are kept, of all pushers together."""
ANSWER_LIFETIME: Final = 24 * 3600.0
"""Seconds for which one is kept."""
MAX_KEY: Final = 64
"""Bytes of a push's key, of which the protocol sends 16: with a peer id it has to fit into an LMDB key."""
_SLICE_ROWS: Final = 100
_SLICE_BYTES: Final = 4 * 1024 * 1024
"""Rows and bytes that are read in one transaction, which pins old pages; a push of 5,000 refs may take a megabyte."""
_END_OF_TIME: Final = 253_402_300_800.0
"""The year 10000, in seconds since 1970: no calendar of ours has it."""

_TIME, _PUSHER, _ADDRESS, _PATH, _KEY, _UPDATES, _REPOSITORY, _FAILURE = range(1, 9)
_NAME, _OLD, _NEW, _FORCED, _REFUSAL = range(1, 6)
_PUSH_TYPES: Final = {_TIME: FIXED64} | dict.fromkeys(range(_PUSHER, _FAILURE + 1), BYTES)
_UPDATE_TYPES: Final = {_NAME: BYTES, _OLD: BYTES, _NEW: BYTES, _FORCED: VARINT, _REFUSAL: BYTES}
_NUMBER_SIZE: Final = 8
_END_OF_NUMBERS: Final = 1 << 63
"""No log gets that long: what would be the next number after it does not fit."""
_DOUBLE: Final = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class LoggedUpdate:
    """What one update of a push asked for, and what became of it.

    `old` and `new` are raw object ids, b"" for none; `refusal` is "" if the update was done, with its push.
    """

    name: bytes
    old: bytes
    new: bytes
    forced: bool = False
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class LoggedPush:
    """One push. `number` counts from 1, `time` is in seconds since 1970, `address` is where the pusher was.

    `repository` is the repository's directory after it, None if there is none. `failure` is "" unless the push failed
    as a whole: then nothing of it was done.
    """

    number: int
    time: float
    pusher: PeerId
    address: str
    path: tuple[bytes, ...]
    key: bytes
    updates: tuple[LoggedUpdate, ...]
    repository: Cid | None = None
    failure: str = ""


class PushLog:
    """The log and the answers on the disk. Its methods touch the disk."""

    def __init__(self, datastore: Datastore) -> None:
        self._store = datastore

    def append(
        self,
        *,
        time: float,
        pusher: PeerId,
        address: str,
        path: Sequence[bytes],
        key: bytes,
        updates: Sequence[LoggedUpdate],
        repository: Cid | None = None,
        failure: str = "",
        answer: bytes | None = None,
    ) -> LoggedPush:
        """Log a push, and keep what it is answered unless `answer` is None; both durable on return, or neither.

        `time` is now, and decides which older answers are forgotten. For the other arguments see `LoggedPush`.

        Returns:
            The push with its number, one more than the last one's, of whatever process.

        Raises:
            LocalProtocolError: `key` is empty or longer than `MAX_KEY`, or `time` is no time of ours.
            DiskError: full, read-only, not permitted: nothing is written.
        """
        if not 0 < len(key) <= MAX_KEY:
            raise LocalProtocolError(f"the key of a push has {len(key)} bytes, not 1 to {MAX_KEY}")
        if not 0 <= time < _END_OF_TIME:
            raise LocalProtocolError(f"a push at {time}")
        push = LoggedPush(0, time, pusher, address, tuple(path), key, tuple(updates), repository, failure)
        row = encode_push(push)
        with self._store.write() as txn:
            number = self._next_number(txn)
            txn.put(_encode_number(number), row, db=self._store.push_log)
            if answer is not None:
                known = _encode_number(number) + _DOUBLE.pack(time)
                txn.put(pusher.raw + key, known, db=self._store.push_keys)
                txn.put(_encode_number(number), answer, db=self._store.push_answers)
            self._forget_answers(txn, time)
        self._store.sync_now()
        return decode_push(number, row)

    def find_answer(self, pusher: PeerId, key: bytes, now: float) -> bytes | None:
        """Return what the push `key` of `pusher` was answered; None: it was not, or so long ago that it is forgotten.

        Raises:
            DiskError: not permitted, or the datastore is damaged.
        """
        if not 0 < len(key) <= MAX_KEY:  # none such was logged
            return None
        with self._store.read() as txn:
            row = txn.get(pusher.raw + key, db=self._store.push_keys)
            known = None if row is None else _decode_known(bytes(row))
            if known is None or not _is_fresh(known[1], now):
                return None
            answer = txn.get(known[0], db=self._store.push_answers)
            return None if answer is None else bytes(answer)

    def iter_newest(self, limit: int | None = None) -> Iterator[LoggedPush]:
        """Yield the pushes that are in the log now, the newest first, `limit` at most; None: all.

        Damaged rows are left out, after a line in the program's own log. Rows are read in slices, so that whoever takes
        long over them keeps nobody waiting.

        Raises:
            DiskError: not permitted, or the datastore is damaged.
        """
        below: bytes | None = None
        found = 0
        while rows := self._read_slice(below):
            for key, row in rows:
                if limit is not None and found >= limit:
                    return
                try:
                    push = decode_push(_decode_number(key), row)
                except DecodeError as exc:
                    _log.warning("passed over a damaged entry of the push log, %s: %s", key.hex(), exc)
                else:
                    found += 1
                    yield push
            below = rows[-1][0]

    def _read_slice(self, below: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return some rows whose keys are less than `below`, the greatest first; none only if there are none."""
        rows: list[tuple[bytes, bytes]] = []
        size = 0
        with self._store.read() as txn, txn.cursor(db=self._store.push_log) as cursor:
            # `set_range` leads to the first key that is not less, and past the end if there is none.
            more = cursor.prev() if below is not None and cursor.set_range(below) else cursor.last()
            while more and len(rows) < _SLICE_ROWS and size < _SLICE_BYTES:
                key, row = cursor.item()
                rows.append((bytes(key), bytes(row)))
                size += len(row)
                more = cursor.prev()
        return rows

    def _next_number(self, txn: lmdb.Transaction) -> int:
        with txn.cursor(db=self._store.push_log) as cursor:
            for key in cursor.iterprev(values=False):
                with suppress(DecodeError):
                    return _decode_number(bytes(key)) + 1
        return 1

    def _forget_answers(self, txn: lmdb.Transaction, now: float) -> None:
        """Delete the answers that are too old or too many; `MAX_ANSWERS` + 1 small rows are read for it, and keys."""
        with txn.cursor(db=self._store.push_keys) as cursor:
            rows = [(bytes(key), bytes(row)) for key, row in cursor]
        fresh: list[tuple[bytes, bytes]] = []
        for key, row in rows:
            known = _decode_known(row)
            if known is not None and _is_fresh(known[1], now):
                fresh.append((known[0], key))
        kept = sorted(fresh)[-MAX_ANSWERS:]  # by number
        for key in {key for key, _row in rows} - {key for _number, key in kept}:
            txn.delete(key, db=self._store.push_keys)
        numbers = {number for number, _key in kept}
        with txn.cursor(db=self._store.push_answers) as cursor:
            gone = [number for number in cursor.iternext(values=False) if number not in numbers]
        for number in gone:
            txn.delete(number, db=self._store.push_answers)


def encode_push(push: LoggedPush) -> bytes:
    """Return the row of a push; its number is not in it."""
    return b"".join((
        encode_varint(_TIME << 3 | FIXED64) + _DOUBLE.pack(push.time),
        _bytes(_PUSHER, push.pusher.raw),
        _bytes(_ADDRESS, _from_text(push.address)),
        *(_bytes(_PATH, name) for name in push.path),
        _bytes(_KEY, push.key),
        *(_bytes(_UPDATES, _encode_update(update)) for update in push.updates),
        b"" if push.repository is None else _bytes(_REPOSITORY, push.repository.raw),
        _bytes(_FAILURE, _from_text(push.failure)),
    ))  # fmt: skip


def decode_push(number: int, row: bytes) -> LoggedPush:
    """Return what the row of push `number` says. Raises DecodeError: it is damaged."""
    numbers, texts = _read_fields(row, _PUSH_TYPES)
    if _TIME not in numbers or _KEY not in texts:
        raise ProtobufError("a push without its time or key")
    time: float = _DOUBLE.unpack(numbers[_TIME].to_bytes(8, "little"))[0]
    if not 0 <= time < _END_OF_TIME:
        raise ProtobufError(f"a push at {time}")
    return LoggedPush(
        number=number,
        time=time,
        pusher=PeerId.decode(_last(texts, _PUSHER)),
        address=_to_text(_last(texts, _ADDRESS)),
        path=tuple(texts.get(_PATH, ())),
        key=_last(texts, _KEY),
        updates=tuple(map(_decode_update, texts.get(_UPDATES, ()))),
        repository=Cid.decode(_last(texts, _REPOSITORY)) if _REPOSITORY in texts else None,
        failure=_to_text(_last(texts, _FAILURE)),
    )


def _encode_update(update: LoggedUpdate) -> bytes:
    out = _bytes(_NAME, update.name) + _bytes(_OLD, update.old) + _bytes(_NEW, update.new)
    out += encode_varint(_FORCED << 3 | VARINT) + b"\1" if update.forced else b""
    return out + _bytes(_REFUSAL, _from_text(update.refusal))


def _decode_update(data: bytes) -> LoggedUpdate:
    numbers, texts = _read_fields(data, _UPDATE_TYPES)
    name, old, new, refusal = (_last(texts, field) for field in (_NAME, _OLD, _NEW, _REFUSAL))
    return LoggedUpdate(name, old, new, bool(numbers.get(_FORCED)), _to_text(refusal))


def _read_fields(data: bytes, types: Mapping[int, int]) -> tuple[dict[int, int], dict[int, list[bytes]]]:
    """Return the fields of a message of ours that are numbers, and those that are bytes, each of which may be repeated.

    Raises:
        ProtobufError: it is none, or has a field of another number or type than `types` says.
    """
    numbers: dict[int, int] = {}
    texts: dict[int, list[bytes]] = {}
    for field, wire_type, value in iter_fields(data):
        if types.get(field) != wire_type:
            raise ProtobufError(f"unexpected field {field}")
        if isinstance(value, bytes):
            texts.setdefault(field, []).append(value)
        else:
            numbers[field] = value
    return numbers, texts


def _last(texts: Mapping[int, list[bytes]], field: int) -> bytes:
    return texts[field][-1] if field in texts else b""


def _bytes(field: int, value: bytes) -> bytes:
    return encode_varint(field << 3 | BYTES) + encode_varint(len(value)) + value


def _from_text(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate must not be the reason that nothing is logged


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _encode_number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_SIZE, "big")


def _decode_number(key: bytes) -> int:
    number = int.from_bytes(key, "big")
    if len(key) != _NUMBER_SIZE or not 0 < number < _END_OF_NUMBERS:
        raise DecodeError("that is not the number of a push")
    return number


def _decode_known(row: bytes) -> tuple[bytes, float] | None:
    """Return number and time of a push that was answered; None: the row is damaged."""
    if len(row) != _NUMBER_SIZE + _DOUBLE.size:
        return None
    return row[:_NUMBER_SIZE], _DOUBLE.unpack(row[_NUMBER_SIZE:])[0]


def _is_fresh(time: float, now: float) -> bool:
    return now - time <= ANSWER_LIFETIME  # not, if damage made it no number

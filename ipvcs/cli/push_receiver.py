"""The process in which a daemon has one offer of a push worked on: `git_bridge.offer_receiver` with what it needs.

stdin     a line of JSON {"home", "socket", "pusher", "address"}, then the request as it came
stdout    replies, each behind a varint of its size, for the daemon to hand on
stderr    for the daemon's log

It has no more memory than `_MEMORY`, nor has what it starts: what it reads comes from strangers.

Spec: docs/protocols/push.md
"""

import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NoReturn

from ipvcs.git_bridge.push_replies import Progress, encode_reply
from ipvcs.multiformats import varint
from ipvcs.objects.git.layout import PIECE_SIZE

if TYPE_CHECKING:
    from ipvcs.git_bridge.push_replies import Reply
    from ipvcs.multiformats.cid import Cid

_MEMORY: Final = 2 * 1024 * 1024 * 1024
"""Bytes of data a process. A push of Git's own history takes 300 MiB, its `index-pack` 500."""
_LITTLE: Final = 16 * 1024 * 1024
"""Bytes: a disk that has no more left is full for a fetch."""
_HEARTBEAT: Final = 5.0
"""Seconds without a word after which the last one is said again: half of what the protocol allows."""
_PROGRESS_PAUSE: Final = 0.25
"""Seconds between words on one stage: nobody reads faster."""


def main() -> NoReturn:
    """Work on the one offer, and exit."""
    from ipvcs.cli.main import exit_after, guarded

    exit_after(lambda: guarded(_run))


def _run() -> int:
    from ipvcs.api.logs import configure
    from ipvcs.cli.app import App
    from ipvcs.client.client import Client, RemoteCommandError
    from ipvcs.git_bridge.names import Names
    from ipvcs.git_bridge.offer_receiver import STALL, BlocksNotSentError, Receiver, Who
    from ipvcs.git_bridge.push_requests import Offer, decode_request
    from ipvcs.git_bridge.received_push import UntrueOfferError
    from ipvcs.multiformats.peer_id import PeerId
    from ipvcs.storage.disk import DiskFullError

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard), hard))
    job = json.loads(sys.stdin.buffer.readline())
    offer = decode_request(sys.stdin.buffer.read())
    assert isinstance(offer, Offer), "queries are the daemon's own"
    app = App(job["home"], {**os.environ, "IPVCS_PATH": job["home"]})
    configure(app.log_levels)
    client = Client(Path(job["socket"]))
    app.use_client(client)
    app.ui.bars = False
    app.fetch_timeout = STALL

    def fetch(root: "Cid", size: int, told: Callable[[int], None]) -> None:
        try:
            most, links = _limits(size)
            for line in client.stream("fetch", str(root), stall=f"{STALL:g}s", max_bytes=most, max_links=links):
                if "TooLarge" in line:
                    raise UntrueOfferError("more was offered than it was said to be")
                told(line["Bytes"])
        except RemoteCommandError as exc:
            if shutil.disk_usage(app.home.path).free < _LITTLE:
                raise DiskFullError(app.home.path) from exc
            said = str(exc)
            raise BlocksNotSentError("the daemon failed" if job["home"] in said else said) from exc

    try:
        with ReplyWriter(sys.stdout.buffer) as replies:
            name = app.keystore.node_public_key().peer_id
            names = Names(app.home, client)
            receiver = Receiver(app.home, name, names, app.blocks, fetch, os.environ, replies.send)
            receiver.receive(offer, Who(PeerId.parse(job["pusher"]), job["address"]))
    finally:
        app.close()
    return 0


def _limits(size: int) -> tuple[int, int]:
    """Return the bytes and links that belong to a file of `size` bytes at most, laid out as the mapping does it."""
    pieces = size // PIECE_SIZE + 1
    inner = pieces // 500 + 16  # nodes of 1,024 links each, some 100 bytes a link
    return size + (pieces + 64) * 128 + inner * 1024, pieces + inner


class ReplyWriter:
    """Writes replies to `out`, one at a time, not too often, and never goes silent; within its block."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._last: Progress = Progress("starting")
        self._said = time.monotonic()
        self._end = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "ReplyWriter":
        self._beating.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        self._beating.join()

    def send(self, reply: "Reply") -> None:
        """Write `reply`; progress of a stage that was told of just now is left out. Raises BrokenPipeError."""
        with self._lock:
            if isinstance(reply, Progress):
                is_same, self._last = self._last.stage == reply.stage, reply
                is_end = reply.total and reply.done >= reply.total
                if is_same and not is_end and time.monotonic() - self._said < _PROGRESS_PAUSE:
                    return
            self._write(reply)

    def _write(self, reply: "Reply") -> None:
        data = encode_reply(reply)
        self._out.write(varint.encode(len(data)) + data)
        self._out.flush()
        self._said = time.monotonic()

    def _beat(self) -> None:
        while not self._end.wait(max(0.01, self._said + _HEARTBEAT - time.monotonic())):
            with self._lock:
                if time.monotonic() - self._said >= _HEARTBEAT:
                    try:
                        self._write(self._last)
                    except OSError:  # the daemon was killed: nobody waits for what we do
                        os.killpg(0, signal.SIGTERM)  # with all that we have started
                        return

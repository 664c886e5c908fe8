"""A second process that converts blobs, so that a large push has the use of two cores (docs/decisions/0010).

    BlobWorker ── settings; then batches of (id, kind), or a request to flush ──► main: cat-file ─► Mapper ─► a session
         ▲                                                                                   │        of its own
         └──────────── for each batch what its blobs became; "flushed"; or the error ────────┘

It is a process of its own, not a fork: no LMDB environment survives one. Its write session protects what it wrote until
it ends, and it ends when its standard input does: with the block that runs it, or with the process that started it.

What is passed is pickled: both ends are this program, and the pipe is nobody else's.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NoReturn, Self

from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.blob_conversion import map_fed
from ipvcs.git_bridge.git import GitRepository, end_process
from ipvcs.git_bridge.object_feed import ObjectReader
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Mapper, Reference
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.home import Home, open_home

_LAUNCHER: Final = "import sys; sys.path.append(sys.argv.pop(1)); from ipvcs.git_bridge.blob_worker import main; main()"
_ENOUGH: Final = 10.0
"""Seconds that it has to end when it has been told to and has nothing left to do."""


class BlobWorkerError(IpvcsError):
    """The second process ended without a word, `status` as `subprocess` gives it."""

    def __init__(self, status: int) -> None:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        super().__init__(
            f"the process that converts blobs was ended {how}",
            hint="was there too little memory? push again: what was converted is remembered",
        )
        self.status = status


@dataclass(frozen=True, slots=True)
class _Settings:
    git_dir: Path
    home: Path
    object_format: ObjectFormat
    profile: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way to the other process: pickled as it is, it would be made of the wrong arguments."""

    error: type[IpvcsError]
    arguments: tuple[object, ...]
    fields: dict[str, object]

    def throw(self) -> NoReturn:
        error = self.error.__new__(self.error)
        error.args = self.arguments
        error.__dict__.update(self.fields)
        raise error


_FLUSH: Final = "flush"
_FLUSHED: Final = "flushed"


class BlobWorker:
    """This process's end of it; see `BlobConverter`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._collected: deque[list[Mapped]] = deque()

    @classmethod
    @contextmanager
    def running(cls, repository: GitRepository, home: Home, profile: str) -> Iterator[Self]:
        """Convert blobs of `repository` into `home` beside this process while the block runs."""
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _LAUNCHER, root],
            env=repository.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            worker = cls(process)
            worker._send(_Settings(repository.git_dir, home.path, repository.object_format, profile))
            yield worker
            with suppress(BrokenPipeError):
                worker._stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENOUGH)
        finally:
            end_process(process)

    def submit(self, batch: Sequence[Reference]) -> None:
        """See `BlobConverter.submit`."""
        self._send([(each.oid.raw, each.kind.value) for each in batch])

    def collect(self) -> list[Mapped]:
        """See `BlobConverter.collect`. Raises BlobWorkerError as well."""
        return self._collected.popleft() if self._collected else self._receive()

    def flush(self) -> None:
        """See `BlobConverter.flush`. Raises BlobWorkerError as well."""
        self._send(_FLUSH)
        while (reply := self._receive()) != _FLUSHED:
            self._collected.append(reply)

    def _send(self, message: object) -> None:
        with suppress(BrokenPipeError):  # it has ended, and why is the next that we read
            pickle.dump(message, self._stdin)
            self._stdin.flush()

    def _receive(self) -> Any:
        try:
            reply = pickle.load(self._stdout)  # noqa: S301 -- of our own making
        except (EOFError, pickle.UnpicklingError):
            raise BlobWorkerError(self._process.wait()) from None
        if isinstance(reply, _Failure):
            reply.throw()
        if isinstance(reply, list):
            return [Mapped(Cid(raw), size, NodeKind(kind)) for raw, size, kind in reply]
        return reply


def main() -> None:
    """Be the second process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-c is for the first one, which then ends this
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    try:
        try:
            _serve(requests, replies)
        except IpvcsError as exc:
            pickle.dump(_Failure(type(exc), exc.args, exc.__dict__), replies)
            replies.flush()
    except BrokenPipeError:  # the first process was ended; Python would try again at exit, and say so
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    settings = _next(requests)
    if settings is None:
        return
    repository = GitRepository(settings.git_dir, os.environ)
    with (
        open_home(settings.home) as home,
        home.blocks.writing() as writer,
        ObjectReader.open(repository) as reader,
    ):
        mapper = Mapper(settings.object_format, settings.profile, writer, _no_lookup)
        while (request := _next(requests)) is not None:
            if request == _FLUSH:
                writer.flush()
                reply: object = _FLUSHED
            else:
                wanted = [(ObjectId(raw), NodeKind(kind)) for raw, kind in request]
                blobs = reader.get_many([oid for oid, _kind in wanted])
                mapped = [map_fed(mapper, fed, kind) for (_oid, kind), fed in zip(wanted, blobs, strict=True)]
                reply = [(each.cid.raw, each.size, each.kind.value) for each in mapped]
            pickle.dump(reply, replies)
            replies.flush()


def _next(requests: IO[bytes]) -> Any:
    """Return what the first process says, None when it says no more: it is done, or was ended."""
    try:
        return pickle.load(requests)  # noqa: S301 -- of our own making
    except (EOFError, pickle.UnpicklingError):
        return None


def _no_lookup(oid: ObjectId, kind: NodeKind) -> Mapped:
    raise AssertionError(f"a blob leads nowhere, {kind} {oid} neither")

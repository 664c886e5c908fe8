"""The home's blocks for commands that read, with what the home lacks fetched by its node.

The first block that is not there decides: from then on a lease keeps what is fetched from garbage collection, and the
node, a daemon or one within this command, fetches what `expect` said will be needed as a whole, else each missing block
by itself. A command that knows that it will read everything so has one fetch with everything in flight, and reads
behind it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Final

from ipvcs.errors import IpvcsError, NotFoundError, UnavailableError
from ipvcs.objects.block import BlockNotFoundError

if TYPE_CHECKING:
    from ipvcs.cli.ui import Ui
    from ipvcs.client.client import Client
    from ipvcs.multiformats.cid import Cid
    from ipvcs.storage.home import Home

_MAX_ROOTS: Final = 20_000
"""CIDs in one request: `rpc_fetch.MAX_ROOTS`."""


class MissingLocallyError(NotFoundError):
    """A block is not in the home, and the network is not asked for it; `reason` says why not.

    No BlockNotFoundError: who walks a DAG turns that into an error of its own, and the way out would not be told.
    """

    def __init__(self, cid: "Cid", reason: str) -> None:
        super().__init__(f"block '{cid}' not found", hint=f"it is not in this home's store, and {reason}")
        self.cid = cid


class FetchCancelledError(UnavailableError):
    """A fetch was ended by us, since what it was for has failed."""

    def __init__(self) -> None:
        super().__init__("the fetch was cancelled")


class FetchingBlocks:
    """A `BlockReader` over the home and its node.

    `connect` returns a client of the node, or raises MissingLocallyError for the CID given when the network is not to
    be asked. `timeout` is how long the node waits without a block; None: as it likes.
    """

    def __init__(
        self, home: "Home", connect: "Callable[[Cid], Client]", ui: "Ui", *, timeout: float | None = None
    ) -> None:
        self._home = home
        self._connect = connect
        self._ui = ui
        self._timeout = timeout
        self._expected: list[Cid] = []
        self._running: _Fetch | None = None
        self._at_end = ExitStack()
        self._leased = False
        self._cancelled = False
        self._leasing = threading.Lock()

    def expect(self, root: "Cid") -> None:
        """Say that everything that `root` reaches will be read: if something is missing, all of it is fetched."""
        self._expected.append(root)

    def get(self, cid: "Cid") -> bytes:
        """Return the block's bytes. Raises MissingLocallyError, or what the node says of a block nobody has."""
        if (data := self.try_get(cid)) is None:
            raise BlockNotFoundError(cid)
        return data

    def try_get(self, cid: "Cid") -> bytes | None:
        """Return the block's bytes; never None, as it is fetched or an error."""
        if (data := self._home.blocks.try_get(cid)) is None:
            self._bring(cid)
            data = self._home.blocks.try_get(cid)
        return data

    def missing_of(self, cids: "Iterable[Cid]") -> "list[Cid]":
        """Return those of `cids` whose blocks are not in the home."""
        some = list(cids)
        sizes = self._home.blocks.sizes(cid.multihash for cid in some)
        return [cid for cid in some if cid.multihash not in sizes]

    def size(self, cid: "Cid") -> int:
        """Return the block's size in bytes. Errors as `get`."""
        if not self._home.blocks.has(cid):
            self._bring(cid)
        return self._home.blocks.size(cid)

    def fetch_all(self, roots: "Iterable[Cid]", *, recursive: bool = True, timeout: float | None = None) -> None:
        """Return when `roots`, and everything that they reach if `recursive`, is in the home; threads may.

        `timeout` is how long the node waits without a block this time. Errors as `get`.
        """
        some = list(roots)
        for start in range(0, len(some), _MAX_ROOTS):
            batch = some[start : start + _MAX_ROOTS]
            self._run(batch, recursive=recursive, timeout=timeout)

    def cancel(self) -> None:
        """Let what is under way end within a second, with an error in the threads that wait for it."""
        self._cancelled = True
        if self._running is not None:
            self._running.cancel()

    def close(self) -> None:
        """End what is under way, and the lease."""
        self.cancel()
        self._at_end.close()

    def _bring(self, cid: "Cid") -> None:
        while self._running is not None or self._expected:
            if self._running is None:
                self._start(cid)
                continue
            try:
                if self._running.wait_for(lambda: self._home.blocks.has(cid)):
                    return
            except IpvcsError:
                self._running = None  # who goes on in spite of it asks anew
                raise
            self._running = None
        self._run([cid], recursive=False)

    def _start(self, missing: "Cid") -> None:
        """Fetch all that the next of the expected reach, in a thread of its own."""
        client = self._prepare(missing)
        roots, self._expected = self._expected[:_MAX_ROOTS], self._expected[_MAX_ROOTS:]

        def lines() -> Iterator[Mapping[str, Any]]:
            for line in client.stream("fetch", *map(str, roots), **self._options(True)):
                self._ui.describe(_describe(line))
                yield line

        self._running = _Fetch(lines)
        self._running.start()

    def _run(self, roots: "list[Cid]", *, recursive: bool, timeout: float | None = None) -> None:
        client = self._prepare(roots[0])
        with self._ui.progress("Fetching") as advance:
            seen = 0
            with closing(client.stream("fetch", *map(str, roots), **self._options(recursive, timeout))) as lines:
                for line in lines:
                    if self._cancelled:
                        raise FetchCancelledError
                    self._ui.describe(_describe(line))
                    advance(line["Bytes"] - seen)
                    seen = line["Bytes"]

    def _prepare(self, cid: "Cid") -> "Client":
        client = self._connect(cid)
        with self._leasing:
            if not self._leased:
                self._at_end.enter_context(self._home.blocks.writing())
                self._leased = True
        return client

    def _options(self, recursive: bool, timeout: float | None = None) -> dict[str, Any]:
        timeout = self._timeout if timeout is None else timeout
        stall = None if timeout is None else f"{max(1, round(timeout * 1000))}ms"
        return {"recursive": recursive, "stall": stall}


def _describe(line: "Mapping[str, Any]") -> str:
    return f"fetched {line['Blocks']:,} of {line['Known']:,} blocks known, from {line['Peers']} peers"


class _Fetch:
    """One fetch that goes on while its blocks are read."""

    def __init__(self, stream: "Callable[[], Iterator[Mapping[str, Any]]]") -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._ended = False
        self._cancelled = False
        self._error: IpvcsError | None = None
        self._thread = threading.Thread(target=self._read, name="fetch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        self._cancelled = True

    def wait_for(self, is_there: Callable[[], bool]) -> bool:
        """Wait until what `is_there` looks for has come; False if the fetch ended without it. Raises its error."""
        with self._changed:
            while not is_there():
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return False
                self._changed.wait()
        return True

    def _read(self) -> None:
        try:
            for _line in self._stream():
                with self._changed:
                    self._changed.notify_all()
                if self._cancelled:
                    break
        except IpvcsError as exc:
            self._error = exc
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

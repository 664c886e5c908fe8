"""A slow link to a daemon: a TCP relay that lets so many bytes a second through, so that a fetch can be met half-way.

Peers dial the relay's address instead of the daemon's. What passes is encrypted; the relay counts it and no more, which
is a count of what a fetch cost that the nodes' own counters have no part in.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_CHUNK = 16 * 1024
_BUFFER = 64 * 1024
"""Bytes in the kernel's buffers either side, so that what the sender thinks sent is not far ahead of what arrived."""


class SlowLink:
    """A relay to `target`, a multiaddr `/ip4/127.0.0.1/tcp/…/p2p/…`, at `rate` bytes a second towards who dialled."""

    def __init__(self, target: str, rate: float) -> None:
        self.rate = rate
        self.passed = 0
        """Bytes that went to those who dialled."""
        _, _, host, _, port, _, self._peer = target.split("/")
        self._target = (host, int(port))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._run(self._accept)

    @property
    def address(self) -> str:
        """Where to dial."""
        return f"/ip4/127.0.0.1/tcp/{self._listener.getsockname()[1]}/p2p/{self._peer}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            _close(each)
        for thread in self._threads:
            thread.join(10)

    def wait_passed(self, count: int, patience: float = 30) -> None:
        """Wait until `count` bytes have gone to those who dialled."""
        deadline = time.monotonic() + patience
        while self.passed < count:
            assert time.monotonic() < deadline, f"only {self.passed} of {count} bytes came"
            time.sleep(0.005)

    def _run(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._open += (near, far)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._run(self._pump, far, near, True)
            self._run(self._pump, near, far, False)

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        due = time.monotonic()
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if slow:
                    due = max(due, time.monotonic() - 0.01) + len(data) / self.rate
                    time.sleep(max(0.0, due - time.monotonic()))
                    with self._lock:
                        self.passed += len(data)
                sink.sendall(data)
        for each in (source, sink):  # half-open connections are nothing that we look at
            _close(each)


def _close(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()

"""A child process that is spoken to by one JSON object a line: what the Kubo and the Helia driver have in common.

A request carries an `id` and its answer repeats it, so answers may come in any order and several threads may ask at
once. A line with an `event` is nobody's answer: the first is `ready`, later ones are the peer's own complaints.
"""

import itertools
import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

Message: TypeAlias = dict[str, Any]

START_TIMEOUT = 60.0  # seconds; Kubo needs 0.3 and Helia 1.5 on an idle machine
STOP_TIMEOUT = 10.0  # seconds; both peers end themselves after 5
_ENDED = {"ok": False, "error": "the process ended", "event": "ended"}


class PeerError(RuntimeError):
    """A peer answered with an error, ended, or did not start. The text has the peer's own words."""


class JsonPeer:
    """The process, a thread that reads its answers, and a log of its stderr.

    A context manager: leaving the block ends the process, by force if need be.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Start `command` and return when it says that it is ready.

        Args:
            name: how errors call the peer.
            command: what to run.
            log: the file that takes its stderr.
            cwd: where it runs.
            env: what its environment has beside ours.

        Raises:
            PeerError: it ended or said nothing in `START_TIMEOUT`; the text ends with the last lines of `log`.
        """
        self.name = name
        self.log = log
        self.complaints: list[Message] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()  # over _waiting and _ended
        self._writing = threading.Lock()  # never held by the reader, or two full pipes would wait for each other
        self._waiting: dict[int, queue.SimpleQueue[Message]] = {}
        self._ended = False
        self._started: queue.SimpleQueue[Message] = queue.SimpleQueue()
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                text=True,
                bufsize=1,
            )
        self._reader = threading.Thread(target=self._read, name=f"{name} answers", daemon=True)
        self._reader.start()
        self.info = self._await_ready()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What the process exited with; None while it runs."""
        return self._process.poll()

    def request(self, command: str, *, within: float, **arguments: Any) -> Message:
        """Send a request and return the whole answer.

        Args:
            command: the peer's word for what to do.
            within: seconds to wait for the answer.
            arguments: what else the request holds; must be JSON.

        Raises:
            PeerError: the peer says no, or ends.
            TimeoutError: no answer came. The peer may still be at it.
        """
        answer: queue.SimpleQueue[Message] = queue.SimpleQueue()
        with self._lock:
            if self._ended:
                raise PeerError(f"{self.name} {command}: the process ended{self._tail()}")
            request_id = next(self._ids)
            self._waiting[request_id] = answer
        self._write({**arguments, "id": request_id, "cmd": command})
        try:
            message = answer.get(timeout=within)
        except queue.Empty:
            raise TimeoutError(f"{self.name} {command}: no answer in {within} s{self._tail()}") from None
        if not message["ok"]:
            causes = f" {message['causes']}" if message.get("causes") else ""
            raise PeerError(f"{self.name} {command}: {message['error']}{causes}{self._tail()}")
        return message

    def close(self) -> None:
        """End the process: the end of its stdin asks it to, a kill makes it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, message: Message) -> None:
        assert self._process.stdin is not None
        with self._writing, suppress(BrokenPipeError):  # it is ending: the reader answers everyone who waits
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._deliver(json.loads(line))
        self._started.put(_ENDED)
        with self._lock:
            self._ended = True
            for answer in self._waiting.values():
                answer.put(_ENDED)

    def _deliver(self, message: Message) -> None:
        if "event" not in message:
            with self._lock:
                waiting = self._waiting.pop(message["id"], None)
            if waiting is not None:
                waiting.put(message)
        elif message["event"] in ("ready", "error"):
            self._started.put(message)
        else:
            self.complaints.append(message)

    def _await_ready(self) -> Message:
        try:
            message = self._started.get(timeout=START_TIMEOUT)
        except queue.Empty:
            message = {"event": "error", "error": f"not ready in {START_TIMEOUT} s"}
        if message["event"] != "ready":
            self._process.kill()
            self.close()
            raise PeerError(f"{self.name} did not start: {message['error']}{self._tail()}")
        return message

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-10:]
        return "".join(f"\n  {self.name}: {line}" for line in lines)

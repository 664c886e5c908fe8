"""Hooks of an owner: programs in its home that are asked about a push, or told of it, as git's are.

    <home>/hooks/pre-receive      once, with lines `<old> <new> <ref>` on stdin; if it fails, all is refused
    <home>/hooks/update           for each update, with arguments <ref> <old> <new>; if it fails, that one is refused
    <home>/hooks/post-receive     once, with the lines of what was done

They run in the mirror's directory with GIT_DIR set; the first two see the objects in quarantine. GIT_PUSH_OPTION_COUNT
and GIT_PUSH_OPTION_<n> have what `git push -o` said, IPVCS_PUSHER the NodeId of who pushes, IPVCS_REPOSITORY the path
behind the name. What they print is shown to the pusher. A hook that is no executable file is none.

Spec: githooks(5)
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from ipvcs.git_bridge.git import GitRepository, end_process
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

DIRECTORY: Final = "hooks"
_MAX_SAID: Final = 32 * 1024
"""Bytes that are shown at once, and of a line."""
PRE_RECEIVE_DECLINED: Final = "pre-receive hook declined"
HOOK_DECLINED: Final = "hook declined"

Step = tuple[bytes, ObjectId | None, ObjectId | None]
"""The ref, its old and its new value."""


class Hooks:
    """The hooks in `directory` for one push; `say` is given the lines that they print."""

    def __init__(self, directory: Path, facts: Mapping[str, str], say: Callable[[bytes], None]) -> None:
        self._directory = directory
        self._facts = facts
        self._say = say

    def pre_receive(self, repository: GitRepository, steps: Sequence[Step]) -> bool:
        """Ask whether `steps` may be done. Without the hook they may."""
        return self._run("pre-receive", repository, stdin=_lines(steps, repository.object_format))

    def update(self, repository: GitRepository, step: Step) -> bool:
        """Ask whether one step may be done."""
        name, old, new = step
        object_format = repository.object_format
        return self._run("update", repository, name, _hex(old, object_format), _hex(new, object_format))

    def post_receive(self, repository: GitRepository, steps: Sequence[Step]) -> None:
        """Tell that `steps` were done."""
        self._run("post-receive", repository, stdin=_lines(steps, repository.object_format))

    def _run(self, name: str, repository: GitRepository, *arguments: bytes, stdin: bytes = b"") -> bool:
        path = self._directory / name
        if not (path.is_file() and os.access(path, os.X_OK)):
            return True
        with TemporaryFile() as words:  # a hook need not read them, and a pipe could fill up
            words.write(stdin)
            words.seek(0)
            try:
                process = subprocess.Popen(
                    [path, *arguments],
                    cwd=repository.git_dir,
                    env={**repository.environ, **self._facts, "GIT_DIR": "."},
                    stdin=words,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            except OSError as exc:
                self._say(f"cannot run the hook {name}: {exc.strerror}".encode())
                return False
        try:
            printed = process.stdout
            assert printed is not None
            for lines in _whole_lines(printed):
                self._say(lines)
            return process.wait() == 0
        finally:
            end_process(process)


def _whole_lines(printed: IO[bytes]) -> Iterator[bytes]:
    """Yield what is printed as it comes, a line or more at a time; one without end is cut."""
    rest = b""
    while data := os.read(printed.fileno(), _MAX_SAID - len(rest)):
        rest += data
        end = rest.rfind(b"\n") + 1 or (len(rest) if len(rest) == _MAX_SAID else 0)
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def push_facts(pusher: str, place: str, options: Sequence[bytes]) -> dict[str, str]:
    """Return what hooks learn of a push from the environment."""
    facts = {"IPVCS_PUSHER": pusher, "IPVCS_REPOSITORY": place, "GIT_PUSH_OPTION_COUNT": str(len(options))}
    for number, option in enumerate(options):
        facts[f"GIT_PUSH_OPTION_{number}"] = os.fsdecode(option)
    return facts


def _lines(steps: Sequence[Step], object_format: ObjectFormat) -> bytes:
    return b"".join(
        b"%b %b %b\n" % (_hex(old, object_format), _hex(new, object_format), name) for name, old, new in steps
    )


def _hex(oid: ObjectId | None, object_format: ObjectFormat) -> bytes:
    return b"0" * (2 * object_format.size) if oid is None else oid.hex.encode()

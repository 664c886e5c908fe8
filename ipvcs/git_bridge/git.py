"""The user's `git`, which reads and writes repositories for us. No other file starts a `git` process.

What git is asked, it is asked about the objects as they are: without replace refs and grafts, which are the user's own
view and not what the ids say.

Spec: git(1), gitformat-*(5); DESIGN §2 "Git is not rewritten here"
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

from ipvcs.errors import IpvcsError, UsageError
from ipvcs.objects.git.object_id import ObjectFormat

_MAX_WORDS: Final = 2000
"""Characters of git's own words that an error repeats."""


class GitNotFoundError(UsageError):
    """There is no `git` to start."""

    exit_code = 128

    def __init__(self) -> None:
        super().__init__("cannot start 'git'", hint="install git, or put it on PATH")


class GitError(IpvcsError):
    """A `git` command failed; `words` is what it said."""

    def __init__(self, command: str, status: int, words: str) -> None:
        said = words.strip().removeprefix("fatal: ").removeprefix("error: ")[-_MAX_WORDS:]
        super().__init__(f"git {command} failed: {said}" if said else f"git {command} failed with status {status}")
        self.command = command
        self.status = status
        self.words = words


class GitRepository:
    """One repository, by its git directory."""

    def __init__(self, git_dir: Path, environ: Mapping[str, str]) -> None:
        """Use `git_dir`, and git with `environ`, of which what would lead to other repositories is left out."""
        self.git_dir: Final = git_dir
        kept = {name: value for name, value in environ.items() if name not in _LEADS_ELSEWHERE}
        self.environ: Final = kept | {
            "GIT_DIR": str(git_dir),
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_GRAFT_FILE": f"{os.devnull}/none",  # of an empty file git says that grafts are deprecated
            "LC_ALL": "C",
        }

    @cached_property
    def object_format(self) -> ObjectFormat:
        """The hash function of the repository's ids."""
        return ObjectFormat(self.run("rev-parse", "--show-object-format").decode().strip())

    @cached_property
    def objects(self) -> Path:
        """The directory of the repository's own objects."""
        found = self.run("rev-parse", "--git-path", "objects").decode(errors="surrogateescape").removesuffix("\n")
        return Path(found).absolute()

    def run(
        self,
        *arguments: str | Path,
        stdin: bytes | IO[bytes] = b"",
        stdout: IO[bytes] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run one command to its end; return what it printed, or b"" when that goes to `stdout`. `environ` is added.

        Raises:
            GitError: it failed.
            GitNotFoundError: there is no git.
        """
        given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        try:
            done: subprocess.CompletedProcess[bytes] = subprocess.run(
                ["git", *map(str, arguments)],
                env={**self.environ, **(environ or {})},
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.PIPE,
                check=False,
                **given,
            )
        except FileNotFoundError:
            raise GitNotFoundError from None
        if done.returncode:
            raise GitError(str(arguments[0]), done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout or b""

    def ask(self, *arguments: str) -> bool:
        """Run one command whose status is its answer: 0 is yes, 1 is no. Raises GitError for any other."""
        try:
            self.run(*arguments)
        except GitError as exc:
            if exc.status == 1:
                return False
            raise
        return True

    @contextmanager
    def start(
        self,
        *arguments: str | Path,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        is_shown: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> Iterator["GitProcess"]:
        """Run one command while the block runs, its output to be read from `stdout` as it comes.

        At the end of the block the command has to have ended well; when the block raises, it is killed. `is_shown` lets
        it talk to the user; `environ` is added.

        Raises:
            GitError: it failed.
            GitNotFoundError: there is no git.
        """
        with ExitStack() as stack:
            words = stack.enter_context(TemporaryFile())  # a pipe that nobody reads would fill up and stop git
            try:
                process = GitProcess(
                    ["git", *map(str, arguments)],
                    env={**self.environ, **(environ or {})},
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=None if is_shown else words,
                    bufsize=_BUFFER,
                )
            except FileNotFoundError:
                raise GitNotFoundError from None
            process.command, process.words = str(arguments[0]), words
            stack.callback(end_process, process)
            yield process
            process.finish()

    def elsewhere(self, objects: Path) -> dict[str, str]:
        """Return what to add to git's environment to have it write objects to the directory `objects`, which is made,
        and still read those of the repository.
        """
        (objects / "pack").mkdir(parents=True)
        others = filter(None, [alternates(self.objects), self.environ.get(ALTERNATES, "")])
        return {"GIT_OBJECT_DIRECTORY": str(objects), ALTERNATES: os.pathsep.join(others)}

    def index_pack_options(self) -> tuple[str, ...]:
        """Return with which options git would index a pack that it fetches: malformed objects are the user's choice.

        Spec: git-config(1), `fetch.fsckObjects`; git's fetch-pack.c, `get_pack`
        """
        for key in ("fetch.fsckObjects", "transfer.fsckObjects"):
            try:
                return ("--strict",) if self.run("config", "--type=bool", "--get", key).strip() == b"true" else ()
            except GitError as exc:
                if exc.status != 1:  # 1: not set
                    raise
        return ()


def alternates(directory: Path) -> str:
    """Return a directory as `ALTERNATES` has it: quoted if it has a colon, which separates them.

    Spec: git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES
    """
    path = str(directory)
    if os.pathsep not in path and not path.startswith('"'):
        return path
    quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{quoted}"'


class GitProcess(subprocess.Popen[bytes]):
    """A command that runs. `words` is where it writes what it has to say, None if it tells the user itself."""

    command: str
    words: IO[bytes] | None

    def finish(self) -> None:
        """Wait for its end, with nothing more to say to it. Raises GitError: it failed."""
        for stream in (self.stdin, self.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # it has ended before it read all, and says why
                    stream.close()
        if self.wait():
            said = b""
            if self.words is not None:
                self.words.seek(0)
                said = self.words.read()
            raise GitError(self.command, self.returncode, said.decode(errors="replace"))


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process unless it has ended, and let go of its streams."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


_BUFFER: Final = 1024 * 1024
ALTERNATES: Final = "GIT_ALTERNATE_OBJECT_DIRECTORIES"
"""The variable that has further directories of objects, as `alternates` writes each."""
_LEADS_ELSEWHERE: Final = frozenset(
    {
        "GIT_COMMON_DIR",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)

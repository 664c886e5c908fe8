"""Real `git`, and repositories made by its plumbing, sealed from the machine that they run on."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.payload import GitType
from tests.unit.objects.git.repository import Repository


class Git:
    """One bare repository, driven by git's plumbing and sealed from the machine it runs on."""

    def __init__(self, path: Path, object_format: ObjectFormat) -> None:
        self.path = path
        self.object_format = object_format
        who = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in {"NAME": "A", "EMAIL": "a@example.com", "DATE": "@1000000000 +0000"}.items()
        }
        self.environ = {
            **who,
            "PATH": os.environ["PATH"],
            "HOME": str(path),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
        }
        path.mkdir()
        self("init", "-q", "--bare", f"--object-format={object_format}", ".")
        self("config", "core.looseCompression", "0")

    def run(self, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["git", *args], cwd=self.path, env=self.environ, input=stdin, capture_output=True, timeout=100, check=False
        )

    def __call__(self, *args: str, stdin: bytes = b"") -> bytes:
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, f"git {' '.join(args)}\n{done.stderr.decode()}"
        return done.stdout

    def write(self, git_type: GitType, body: bytes) -> ObjectId:
        """Store an object as it is, well formed or not."""
        out = self("hash-object", "-t", git_type, "-w", "--stdin", "--literally", stdin=body)
        return ObjectId.parse(out.decode().strip())

    def write_all(self, git_type: GitType, bodies: Iterable[bytes], directory: Path) -> list[ObjectId]:
        """Store many objects of a type with one process."""
        directory.mkdir()
        paths = []
        for index, body in enumerate(bodies):
            paths.append(directory / str(index))
            paths[-1].write_bytes(body)
        names = "".join(f"{path}\n" for path in paths).encode()
        out = self("hash-object", "-t", git_type, "-w", "--literally", "--no-filters", "--stdin-paths", stdin=names)
        return [ObjectId.parse(line) for line in out.decode().split()]

    def read_into(self, repository: Repository) -> None:
        """Take every object of this repository over into `repository`."""
        out = self("cat-file", "--batch-all-objects", "--batch", "--unordered")
        position = 0
        while position < len(out):
            end = out.index(b"\n", position)
            oid, git_type, size = out[position:end].decode().split()
            body = out[end + 1 : end + 1 + int(size)]
            assert repository.add(GitType(git_type), body) == ObjectId.parse(oid)
            position = end + 1 + int(size) + 1

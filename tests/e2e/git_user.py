"""A person who uses git with a home of ipvcs: sealed from the machine's settings, and from the world."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ipvcs.objects.git.object_id import ObjectFormat

PATIENCE = 90


@dataclass(frozen=True)
class Said:
    """What a command of git did."""

    code: int
    out: str
    err: str


class GitUser:
    """Runs git in the directory `path`, with remotes by the node of `home`."""

    def __init__(self, path: Path, home: Path, **environ: str) -> None:
        self.path = path
        self.home = home
        path.mkdir(parents=True, exist_ok=True)
        who = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in {"NAME": "A", "EMAIL": "a@example.com", "DATE": "@1000000000 +0000"}.items()
        }
        self._environ = {
            **who,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(path),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "IPVCS_PATH": str(home),
            **environ,
        }

    def patched(self, first: str) -> "GitUser":
        """Return the same user, whose remote helper runs the statement `first` before anything else."""
        directory = self.path.with_name(f"{self.path.name}-helper")
        directory.mkdir(exist_ok=True)
        helper = directory / "git-remote-ipfs"
        helper.write_text(f"#!{sys.executable}\n{first}\nfrom ipvcs.cli.script import git_remote\ngit_remote()\n")
        helper.chmod(0o755)
        return GitUser(self.path, self.home, PATH=f"{directory}{os.pathsep}{self._environ['PATH']}")

    def run(self, *words: str | bytes | Path, stdin: bytes = b"") -> Said:
        """Run a command of git, whatever comes of it."""
        done = subprocess.run(
            ["git", *words],
            cwd=self.path,
            env=self._environ,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        said = Said(done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="replace"))
        assert "Traceback" not in said.err, said.err
        return said

    def __call__(self, *words: str | bytes | Path, stdin: bytes = b"") -> str:
        """Run a command of git that has to succeed; return what it printed."""
        said = self.run(*words, stdin=stdin)
        assert said.code == 0, f"git {words}\n{said.err}"
        return said.out

    def raw(self, *words: str) -> bytes:
        """Run a command of git that has to succeed; return the bytes that it printed."""
        return subprocess.run(
            ["git", *words], cwd=self.path, env=self._environ, stdout=subprocess.PIPE, timeout=PATIENCE, check=True
        ).stdout

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command of git, whose process group is its own."""
        return subprocess.Popen(
            ["git", *words], cwd=self.path, env=self._environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def init(self, object_format: ObjectFormat = ObjectFormat.SHA1) -> "GitUser":
        """Make a repository."""
        self("init", "-q", "-b", "main", f"--object-format={object_format}")
        return self

    def commit(self, name: str, text: str) -> str:
        """Commit a file; return the commit's id."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)
        self("add", name)
        self("commit", "-q", "-m", f"{name}: {text}")
        return self("rev-parse", "HEAD").strip()

    def refs(self) -> dict[str, str]:
        """Return the local refs."""
        lines = self("for-each-ref", "--format=%(objectname) %(refname)").splitlines()
        return {line.split(" ", 1)[1]: line.split(" ", 1)[0] for line in lines}

    def remote_refs(self, remote: str) -> dict[str, str]:
        """Return what `ls-remote` lists, HEAD and peeled tags left out."""
        pairs = (line.split("\t") for line in self("ls-remote", remote).splitlines())
        return {name: oid for oid, name in pairs if name.startswith("refs/") and not name.endswith("^{}")}

    def objects(self, *revisions: str) -> set[str]:
        """Return all ids that `revisions`, by default all refs, reach."""
        return set(self("rev-list", "--objects", "--no-object-names", *(revisions or ("--all",))).split())

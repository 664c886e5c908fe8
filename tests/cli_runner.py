"""Runs `ipvcs` commands in tests: in this process where that is enough, as real processes where it is not."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipvcs.cli.main import run


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def out(self) -> str:
        """Its output as text."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        """Its output's lines."""
        return self.out.splitlines()

    @property
    def json(self) -> list[Any]:
        """Its output as JSON, one value a line."""
        return [json.loads(line) for line in self.lines]


class Ipvcs:
    """One home's command line."""

    def __init__(self, home: Path, capture: "pytest.CaptureFixture[bytes] | None" = None) -> None:
        self.home = home
        self._capture = capture

    def run(self, *args: str | Path, stdin: bytes | None = None) -> Result:
        """Run a command, whatever comes of it. With `stdin`, or without a capture fixture, in a process of its own."""
        words = ["--home", str(self.home), *map(str, args)]
        if stdin is None and self._capture is not None:
            self._capture.readouterr()
            code = run(words)
            sys.stdout.flush()
            captured = self._capture.readouterr()
            return Result(code, captured.out, captured.err.decode())
        command = [sys.executable, "-m", "ipvcs", *words]
        done = subprocess.run(command, input=stdin or b"", capture_output=True, timeout=120, check=False)
        return Result(done.returncode, done.stdout, done.stderr.decode())

    def ok(self, *args: str | Path, stdin: bytes | None = None) -> Result:
        """Run a command that must succeed."""
        result = self.run(*args, stdin=stdin)
        assert result.code == 0, f"ipvcs {' '.join(map(str, args))}\n{result.stderr}"
        return result

    def fails(self, *args: str | Path, code: int = 128, stdin: bytes | None = None) -> str:
        """Run a command that must fail with `code`, and return what it said: an error, never a traceback."""
        result = self.run(*args, stdin=stdin)
        assert result.code == code, f"ipvcs {' '.join(map(str, args))}: {result.code}\n{result.out}{result.stderr}"
        assert "Traceback" not in result.stderr
        assert result.stderr.startswith("error: ")
        return result.stderr


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a process that uses `home`."""
    return {**os.environ, "IPVCS_PATH": str(home)}

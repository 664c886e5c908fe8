"""The remote helper, run by a person."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = ("git-remote-ipfs", "git-remote-ipns")


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name(name)
    return subprocess.run([command, *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
@pytest.mark.parametrize("name", HELPERS)
def test_help_is_a_page_with_the_sections_of_a_manual(name: str, words: list[str]) -> None:
    said = run(name, *words)
    assert (said.returncode, said.stderr) == (0, "")
    sections = re.findall(r"^([A-Z ]+)$", said.stdout, re.MULTILINE)
    assert sections == [
        "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "CONFIGURATION", "EXIT STATUS", "EXAMPLES",
        "SEE ALSO",
    ]  # fmt: skip
    assert max(map(len, said.stdout.splitlines())) <= 100
    for word in ("ipfs::/ipns/", "ipns://", "ipfs://", "IPVCS_PATH", "IPVCS_FETCH", "IPVCS_NO_DAEMON", "fsckObjects"):
        assert word in said.stdout


@pytest.mark.parametrize("words", [[], ["one", "two", "three"]])
@pytest.mark.parametrize("name", HELPERS)
def test_without_what_git_gives_it_says_who_runs_it_and_how(name: str, words: list[str]) -> None:
    said = run(name, *words)
    assert said.returncode == 129
    assert said.stderr.startswith(f"error: {name} is run by git itself")
    assert "git clone ipfs::/ipns/<NodeId>" in said.stderr
    assert f"`{name} --help`" in said.stderr

"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest

from tests.cli_runner import Ipvcs


@pytest.fixture
def ipvcs(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Ipvcs:
    """The command line of a home that is not made yet."""
    return Ipvcs(tmp_path / "home", capfdbinary)


@pytest.fixture
def other(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Ipvcs:
    """The command line of another home."""
    return Ipvcs(tmp_path / "other", capfdbinary)

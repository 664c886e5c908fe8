"""Homes for the tests of the store, on a file system in memory where there is one."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvcs.storage.home import Home, open_home

_MEMORY = Path("/dev/shm")


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """A directory where a sync costs nothing: these tests are about order and content, tests/e2e about the disk."""
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def home(fast_path: Path) -> Iterator[Home]:
    """A new home."""
    with open_home(fast_path / "home") as home:
        yield home

"""Virtual time, and a disk that takes none of it."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from anyio import to_thread
from trio.testing import MockClock

from ipvcs.storage.datastore import Datastore, open_datastore

_T = TypeVar("_T")
_MEMORY = Path("/dev/shm")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def datastore() -> Iterator[Datastore]:
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        store = open_datastore(Path(path), make=True)
        yield store
        store.close()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run at once what would run in a thread: the mock clock takes waiting for one for idleness, and jumps.

    Gives the names of the functions that ran so.
    """
    ran: list[str] = []

    async def run_sync(function: Callable[..., _T], *args: Any, **_options: Any) -> _T:
        await anyio.lowlevel.checkpoint()
        ran.append(getattr(function, "__name__", type(function).__name__))
        return function(*args)

    monkeypatch.setattr(to_thread, "run_sync", run_sync)
    return ran

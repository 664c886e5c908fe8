"""Ledgers at work: they survive a restart, and a kill but for the last minute."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange import ledger_service
from ipvcs.node.exchange.ledger import Ledger
from ipvcs.node.exchange.ledger_service import LedgerService
from ipvcs.node.exchange.ledger_store import Changes, LedgerStore
from ipvcs.storage.disk import DiskError
from ipvcs.storage.home import Home, open_home

pytestmark = pytest.mark.anyio

PEER = PeerId.from_public_key(b"somebody")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home") as opened:
        yield opened


async def test_ledgers_are_the_same_after_a_restart(home: Home) -> None:
    async with LedgerService.open(home.datastore) as service:
        service.ledgers.sent(PEER, 7, 1000.0)
    async with LedgerService.open(home.datastore) as service:
        assert service.ledgers.get(PEER) == Ledger(7, 0, 1, 1000.0)
        service.ledgers.received(PEER, 2, 2000.0)
    async with LedgerService.open(home.datastore) as service:
        assert service.ledgers.get(PEER) == Ledger(7, 2, 2, 2000.0)


async def test_changes_are_saved_while_it_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_service, "SAVE_INTERVAL", 0.01)
    async with LedgerService.open(home.datastore) as service:
        service.ledgers.sent(PEER, 7, 1000.0)
        with anyio.fail_after(10):
            while not LedgerStore(home.datastore).load():  # as after a SIGKILL
                await anyio.sleep(0.01)


async def test_what_could_not_be_saved_is_saved_the_next_time(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_store: LedgerStore, _changes: Changes) -> None:
        raise DiskError("no space left", home.path)

    async with LedgerService.open(home.datastore) as service:
        service.ledgers.sent(PEER, 7, 1000.0)
        with monkeypatch.context() as patch:
            patch.setattr(LedgerStore, "write", fail)
            await service._save()
        assert "cannot write the ledgers: no space left" in caplog.text
    assert set(LedgerStore(home.datastore).load()) == {PEER}

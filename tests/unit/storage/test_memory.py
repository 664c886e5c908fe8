"""The blockstore in memory."""

import pytest

from ipvcs.storage.interface import Blockstore
from ipvcs.storage.memory import MemoryBlockstore
from tests.contracts.blockstore import BlockstoreContract


class TestMemoryBlockstore(BlockstoreContract):
    @pytest.fixture
    def store(self) -> Blockstore:
        return MemoryBlockstore()

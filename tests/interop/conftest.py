"""Fixtures for real peers. Every test in this folder is marked `interop` and runs in the private network namespace.

`kubo` and `helia` are one node each for the whole session: use content of your own and expect others' beside it.
`start_kubo` and `start_helia` start more, with options, and end them with the test. `remotes` has one for each kind of
key.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer
from tests.interop.remote import Remote

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.xdist_group("interop"))  # one worker, so one Kubo and one Helia


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboPeer]:
    """A running Kubo with an Ed25519 identity and no fsync."""
    with KuboPeer(tmp_path_factory.mktemp("kubo"), identity="ed25519") as peer:
        yield peer


@pytest.fixture(scope="session")
def helia(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeliaPeer]:
    """A running Helia with a server of the LAN DHT."""
    with HeliaPeer(tmp_path_factory.mktemp("helia"), "--kad", "lan") as peer:
        yield peer


@pytest.fixture
def start_kubo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., KuboPeer]]:
    """Start Kubo nodes with the keyword arguments of `KuboPeer`; each ends with the test."""
    with ExitStack() as running:

        def start(**options: Any) -> KuboPeer:
            return running.enter_context(KuboPeer(tmp_path_factory.mktemp("kubo"), **options))

        yield start


@pytest.fixture
def start_helia(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., HeliaPeer]]:
    """Start Helia nodes with the options of `helia/node.mjs`; each ends with the test."""
    with ExitStack() as running:

        def start(*options: str) -> HeliaPeer:
            return running.enter_context(HeliaPeer(tmp_path_factory.mktemp("helia"), *options))

        yield start


@pytest.fixture(scope="session")
def remotes(
    kubo: KuboPeer, helia: HeliaPeer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Remote]]:
    """Return a running peer by the kind of its key, as in `remote.REMOTES`: one each for the session, started late."""
    found = {"kubo-ed25519": Remote(kubo), "helia-ed25519": Remote(helia)}
    with ExitStack() as running:

        def start(name: str) -> KuboPeer | HeliaPeer:
            directory = tmp_path_factory.mktemp(name)
            if name == "kubo-rsa":
                return running.enter_context(KuboPeer(directory, identity="rsa"))
            key = {"helia-rsa": "RSA", "helia-secp256k1": "secp256k1"}[name]
            return running.enter_context(HeliaPeer(directory, "--kad", "none", "--key", key))

        def get(name: str) -> Remote:
            if name not in found:
                found[name] = Remote(start(name))
            return found[name]

        yield get

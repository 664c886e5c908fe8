"""What several end-to-end tests start from."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.storage.home import Home, open_home
from tests.e2e.daemons import Daemons
from tests.e2e.fetching import MIB, noise
from tests.e2e.git_net import Net
from tests.e2e.git_user import GitUser
from tests.e2e.real_git import Git


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test."""
    started = Daemons(tmp_path)
    yield started
    started.close()


@pytest.fixture(params=list(ObjectFormat))
def git(request: pytest.FixtureRequest, tmp_path: Path) -> Git:
    """An empty repository, of either object format."""
    return Git(tmp_path / "repo.git", request.param)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A new home, opened."""
    with open_home(tmp_path / "home") as home:
        yield home


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """The daemons of a module's tests."""
    made = Net(tmp_path_factory.mktemp("net"))
    yield made
    made.daemons.close()


@pytest.fixture
def author(net: Net, tmp_path: Path) -> GitUser:
    """The publisher, with a repository of one commit whose remote `ipfs` is a place behind its name."""
    user = GitUser(tmp_path / "work", net.publisher).init()
    user("remote", "add", "ipfs", net.url(tmp_path))
    user.commit("file", "one")
    return user


@pytest.fixture
def large(net: Net, tmp_path: Path, author: GitUser) -> GitUser:
    """The author, who has pushed 32 MiB that nothing compresses."""
    for number in range(8):
        (author.path / f"blob{number}").write_bytes(
            noise(4 * MIB, random.Random(str(tmp_path)).getrandbits(32) + number)
        )
    author("add", ".")
    author("commit", "-q", "-m", "blobs")
    author("push", "-q", "ipfs", "main")
    return author

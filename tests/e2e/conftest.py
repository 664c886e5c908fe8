"""What several end-to-end tests of Git start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.storage.home import Home, open_home
from tests.e2e.real_git import Git


@pytest.fixture(params=list(ObjectFormat))
def git(request: pytest.FixtureRequest, tmp_path: Path) -> Git:
    """An empty repository, of either object format."""
    return Git(tmp_path / "repo.git", request.param)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A new home, opened."""
    with open_home(tmp_path / "home") as home:
        yield home

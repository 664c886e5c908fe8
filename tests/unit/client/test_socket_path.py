import os
from pathlib import Path

import pytest

from ipvcs.client.socket_path import (
    MAX_PATH,
    DaemonNotRunningError,
    UnsafeDirectoryError,
    check_private,
    find_socket,
    make_private,
    plan_socket,
)

UID = os.getuid()


@pytest.fixture
def long_home(tmp_path: Path) -> Path:
    home = tmp_path / ("h" * 100) / ("o" * 100)
    home.mkdir(parents=True, mode=0o700)
    return home


@pytest.fixture
def short_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a short path, whatever pytest's own directory is."""
    home = tmp_path_factory.mktemp("h")
    if len(os.fsencode(home)) > MAX_PATH - 20:
        pytest.fail("run the tests with a shorter --basetemp")
    return home


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    directory.chmod(0o700)
    return directory


def test_a_short_home_holds_its_socket(short_home: Path, runtime: Path) -> None:
    place = plan_socket(short_home, runtime, UID)
    assert (place.path, place.pointer) == (short_home.resolve() / "api.sock", None)
    assert find_socket(short_home) == place.path


def test_a_path_of_exactly_the_kernels_limit_is_short(tmp_path: Path) -> None:
    room = MAX_PATH - len(os.fsencode(tmp_path.resolve())) - len("//api.sock")
    assert plan_socket(tmp_path / ("x" * room), None, UID).pointer is None
    assert plan_socket(tmp_path / ("x" * (room + 1)), None, UID).pointer is not None


def test_the_limit_counts_bytes_not_characters(tmp_path: Path) -> None:
    room = MAX_PATH - len(os.fsencode(tmp_path.resolve())) - len("//api.sock")
    assert plan_socket(tmp_path / ("é" * room), None, UID).pointer is not None


def test_a_long_homes_socket_lies_in_the_runtime_directory(long_home: Path, runtime: Path) -> None:
    place = plan_socket(long_home, runtime, UID)
    assert place.path.parent.parent == runtime
    assert place.path.parent.name.startswith("ipvcs-")
    assert place.pointer == long_home.resolve() / "api.addr"
    assert len(os.fsencode(place.path)) <= MAX_PATH


def test_two_long_homes_have_two_sockets(long_home: Path, runtime: Path) -> None:
    for directory in (runtime, None):
        assert plan_socket(long_home, directory, UID).path != plan_socket(long_home / "x", directory, UID).path


@pytest.mark.parametrize("unfit", ["missing", "open", "long", "file", "none"])
def test_without_a_fit_runtime_directory_it_lies_in_tmp(long_home: Path, runtime: Path, unfit: str) -> None:
    given: Path | None = {"missing": runtime / "gone", "long": long_home, "file": runtime / "f"}.get(unfit, runtime)
    (runtime / "f").touch()
    if unfit == "open":
        runtime.chmod(0o755)
    place = plan_socket(long_home, None if unfit == "none" else given, UID)
    assert place.path.parent == Path(f"/tmp/ipvcs-{UID}")


def test_a_home_is_found_by_any_of_its_names(long_home: Path, tmp_path: Path, runtime: Path) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(long_home)
    assert plan_socket(alias, runtime, UID) == plan_socket(long_home, runtime, UID)
    place = plan_socket(long_home, runtime, UID)
    assert place.pointer is not None
    make_private(place.path.parent, UID)
    place.pointer.write_bytes(os.fsencode(place.path) + b"\n")
    assert find_socket(alias) == find_socket(long_home) == place.path


def test_without_a_pointer_no_daemon_runs(long_home: Path) -> None:
    with pytest.raises(DaemonNotRunningError) as caught:
        find_socket(long_home)
    assert caught.value.hint == "run `ipvcs daemon`"


@pytest.mark.parametrize("content", [b"", b"relative/api.sock\n", b"/" + b"x" * 200])
def test_a_pointer_to_nowhere_means_no_daemon(long_home: Path, content: bytes) -> None:
    (long_home / "api.addr").write_bytes(content)
    with pytest.raises(DaemonNotRunningError):
        find_socket(long_home)


def test_a_pointer_into_a_directory_open_to_others_is_not_followed(long_home: Path, runtime: Path) -> None:
    (runtime / "ours").mkdir(mode=0o755)
    (long_home / "api.addr").write_bytes(os.fsencode(runtime / "ours" / "api.sock"))
    with pytest.raises(UnsafeDirectoryError, match=r"others may enter it \(mode 0755\)"):
        find_socket(long_home)


def test_a_directory_that_is_gone_means_no_daemon_there_yet(long_home: Path, runtime: Path) -> None:
    (long_home / "api.addr").write_bytes(os.fsencode(runtime / "gone" / "api.sock"))
    assert find_socket(long_home) == runtime / "gone" / "api.sock"


def test_a_private_directory_is_made_for_us_alone(runtime: Path) -> None:
    make_private(runtime / "ours", UID)
    assert (runtime / "ours").stat().st_mode & 0o777 == 0o700
    make_private(runtime / "ours", UID)


def test_a_directory_of_somebody_elses_is_refused(runtime: Path) -> None:
    with pytest.raises(UnsafeDirectoryError, match=f"belongs to the user with id {UID}"):
        check_private(runtime, UID + 1)


def test_a_symbolic_link_is_no_private_directory(runtime: Path) -> None:
    (runtime / "real").mkdir(mode=0o700)
    (runtime / "link").symlink_to(runtime / "real")
    with pytest.raises(UnsafeDirectoryError, match="not a directory"):
        make_private(runtime / "link", UID)

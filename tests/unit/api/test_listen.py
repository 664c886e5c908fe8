import os
import socket
import stat
from pathlib import Path

import pytest

from ipvcs.api.listen import ApiAddressError, bind_tcp, bind_unix
from ipvcs.client.socket_path import SocketPlace, UnsafeDirectoryError, find_socket, plan_socket
from ipvcs.errors import ConflictError
from ipvcs.node.network.errors import ListenError


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a short name."""
    return tmp_path_factory.mktemp("h")


@pytest.fixture
def long_home(home: Path) -> Path:
    path = home / ("x" * 100) / ("y" * 100)
    path.mkdir(parents=True, mode=0o700)
    return path


def test_the_socket_is_its_owners_alone(home: Path) -> None:
    bound = bind_unix(plan_socket(home, None, os.getuid()))
    assert stat.S_IMODE((home / "api.sock").stat().st_mode) == 0o600
    assert bound.address == f"/unix{home.resolve()}/api.sock"
    bound.close()
    bound.close()
    assert list(home.iterdir()) == []


def test_a_socket_that_a_killed_daemon_left_is_replaced(home: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(home / "api.sock"))
    left.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(home / "api.sock"))
    bound = bind_unix(plan_socket(home, None, os.getuid()))
    bound.socket.listen()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(home / "api.sock"))
        accepted, _ = bound.socket.accept()
        accepted.close()
    bound.close()
    assert list(home.iterdir()) == []


def test_a_socket_on_which_somebody_listens_is_left_alone(home: Path) -> None:
    first = bind_unix(plan_socket(home, None, os.getuid()))
    first.socket.listen()
    with pytest.raises(ConflictError, match="somebody listens on"):
        bind_unix(plan_socket(home, None, os.getuid()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(home / "api.sock"))
    first.close()


def test_a_long_home_gets_a_pointer_that_clients_follow(long_home: Path, home: Path) -> None:
    runtime = home / "run"
    runtime.mkdir(mode=0o700)
    bound = bind_unix(plan_socket(long_home, runtime, os.getuid()))
    assert find_socket(long_home).parent.parent == runtime
    assert stat.S_IMODE(find_socket(long_home).parent.stat().st_mode) == 0o700
    bound.socket.listen()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(find_socket(long_home)))
    bound.close()
    assert list(long_home.iterdir()) == []


def test_a_directory_open_to_others_is_not_used(home: Path) -> None:
    (home / "ours").mkdir(mode=0o755)
    place = SocketPlace(home / "ours" / "api.sock", home / "api.addr")
    with pytest.raises(UnsafeDirectoryError):
        bind_unix(place)
    assert list((home / "ours").iterdir()) == []


def test_a_pointer_of_earlier_times_is_removed(home: Path) -> None:
    (home / "api.addr").write_bytes(b"/elsewhere/api.sock\n")
    bind_unix(plan_socket(home, None, os.getuid())).close()
    assert not (home / "api.addr").exists()


def test_a_pointer_that_cannot_be_written_leaves_no_socket(home: Path) -> None:
    (home / "ours").mkdir(mode=0o700)
    with pytest.raises(Exception, match="cannot use"):
        bind_unix(SocketPlace(home / "ours" / "api.sock", home / "gone" / "api.addr"))
    assert list((home / "ours").iterdir()) == []


@pytest.mark.network
def test_loopback_addresses_are_bound_and_told_with_their_ports() -> None:
    bound = bind_tcp(["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0", "/ip4/127.0.0.2/tcp/0"])
    for each, start in zip(bound, ("/ip4/127.0.0.1/tcp/", "/ip6/::1/tcp/", "/ip4/127.0.0.2/tcp/"), strict=True):
        assert each.address == f"{start}{each.socket.getsockname()[1]}"
        each.close()


@pytest.mark.parametrize(
    "address",
    [
        "/ip4/0.0.0.0/tcp/5001",
        "/ip4/192.168.1.2/tcp/5001",
        "/ip6/::/tcp/5001",
        "/ip6/2001:db8::1/tcp/5001",
        "/dns/localhost/tcp/5001",
        "/ip4/127.0.0.1/udp/5001",
        "/ip4/127.0.0.1/tcp/5001/http",
        "/unix/run/api.sock",
    ],
)
def test_anything_but_loopback_tcp_is_refused(address: str) -> None:
    with pytest.raises(ApiAddressError, match="cannot serve the API on") as caught:
        bind_tcp([address])
    assert caught.value.exit_code == 129
    assert caught.value.hint


@pytest.mark.network
def test_one_bad_address_and_nothing_is_bound() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ApiAddressError):
        bind_tcp([f"/ip4/127.0.0.1/tcp/{port}", "/ip4/0.0.0.0/tcp/1"])
    bind_tcp([f"/ip4/127.0.0.1/tcp/{port}"])[0].close()


@pytest.mark.network
def test_an_address_in_use_says_so_and_lets_the_others_go() -> None:
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free.bind(("127.0.0.1", 0))
        first, second = free.getsockname()[1], taken.getsockname()[1]
        free.close()
        with pytest.raises(ListenError, match=f"cannot listen on '/ip4/127.0.0.1/tcp/{second}'"):
            bind_tcp([f"/ip4/127.0.0.1/tcp/{first}", f"/ip4/127.0.0.1/tcp/{second}"])
        bind_tcp([f"/ip4/127.0.0.1/tcp/{first}"])[0].close()


def test_addresses_are_bounded() -> None:
    with pytest.raises(ApiAddressError, match="more than 8"):
        bind_tcp(["/ip4/127.0.0.1/tcp/0"] * 9)

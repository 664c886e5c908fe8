"""The LMDB environment: shared inside a process, not across a fork, and locked against other processes."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ipvcs.errors import LocalProtocolError
from ipvcs.storage import datastore
from ipvcs.storage.datastore import COUNTER_EPOCH, open_datastore
from ipvcs.storage.disk import DiskError, PermissionDeniedError

CHECKOUT = Path(__file__).parents[3]


def test_an_environment_is_shared_inside_a_process_and_closed_by_its_last_user(tmp_path: Path) -> None:
    first = open_datastore(tmp_path, make=True)
    (tmp_path / "x").mkdir()
    second = open_datastore(tmp_path / "x" / "..", make=True)

    assert first is second
    first.close()
    with second.write() as txn:
        second.bump(txn, COUNTER_EPOCH)
    second.close()
    third = open_datastore(tmp_path, make=True)
    assert third is not first
    with third.read() as txn:
        assert third.counter(txn, COUNTER_EPOCH) == 1
    third.close()


def test_threads_that_open_at_once_get_one_environment(tmp_path: Path) -> None:
    found: list[datastore.Datastore] = []
    start = threading.Barrier(8)

    def open_it() -> None:
        start.wait()
        found.append(open_datastore(tmp_path, make=True))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, found))) == 1
    for store in found:
        store.close()


def test_two_processes_never_write_at_once(tmp_path: Path) -> None:
    """Opening in one process must not unlock the environment of another: see the note on `lock.mdb`."""
    store = open_datastore(tmp_path, make=True)
    code = (
        "import sys, pathlib, time; from ipvcs.storage.datastore import open_datastore;"
        "store = open_datastore(pathlib.Path(sys.argv[1]), make=True); print('open', flush=True)\n"
        "with store.write() as txn: print('writing', flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, os.fspath(tmp_path)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        try:
            with store.write() as txn:
                store.bump(txn, COUNTER_EPOCH)
                with pytest.raises(subprocess.TimeoutExpired):
                    other.wait(1.0)
            assert other.stdout.read().endswith("writing\n")
        finally:
            other.kill()
    store.close()


def test_the_lock_file_has_its_disk_space_from_the_start(tmp_path: Path) -> None:
    """A write to a hole in a mapped file on a full disk is a SIGBUS."""
    store = open_datastore(tmp_path, make=True)
    lock = (tmp_path / "lock.mdb").stat()

    assert lock.st_blocks * 512 >= lock.st_size >= 64 * 1024
    assert store.env.info()["max_readers"] >= 1024
    store.close()


def test_a_forked_child_opens_its_own_and_the_parents_refuses(tmp_path: Path) -> None:
    store = open_datastore(tmp_path, make=True)
    with store.write() as txn:
        store.bump(txn, COUNTER_EPOCH)

    def child() -> None:
        with pytest.raises(LocalProtocolError, match="opened before this process was forked"), store.read():
            pass
        with pytest.raises(LocalProtocolError), store.write():
            pass
        own = open_datastore(tmp_path, make=True)
        assert own is not store
        with own.write() as txn:
            assert own.bump(txn, COUNTER_EPOCH) == 2
        own.close()
        store.close()

    assert run_in_fork(child) == 0
    with store.write() as txn:
        assert store.bump(txn, COUNTER_EPOCH) == 3
    store.close()


def run_in_fork(act: Callable[[], object]) -> int:
    """Run `act` in a forked child; return its exit status, 0 when it raised nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python 3.12 warns where there are threads: the test runner's
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_during_a_write_leaves_the_lock_with_the_parent(tmp_path: Path) -> None:
    store = open_datastore(tmp_path, make=True)

    def write_too() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(1)
        with open_datastore(tmp_path, make=True).write():
            pass

    with store.write() as txn:
        assert run_in_fork(write_too) == -signal.SIGALRM, "it waited for the parent"
        store.bump(txn, COUNTER_EPOCH)
    assert run_in_fork(write_too) == 0
    with store.read() as txn:
        assert store.counter(txn, COUNTER_EPOCH) == 1
    store.close()


def test_a_fork_while_another_thread_opens_does_not_hang_the_child(tmp_path: Path) -> None:
    with datastore._open_lock:
        assert run_in_fork(lambda: open_datastore(tmp_path, make=True).close()) == 0


def test_a_small_address_space_gets_a_smaller_map(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, resource; from ipvcs.storage.datastore import open_datastore;"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30));"
        "store = open_datastore(pathlib.Path(sys.argv[1]), make=True); print(store.env.info()['map_size'])\n"
        "with store.write() as txn: store.bump(txn, b'epoch')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, os.fspath(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert 1 << 31 <= int(done.stdout) < 8 << 30
    store = open_datastore(tmp_path, make=True)
    with store.read() as txn:
        assert store.counter(txn, b"epoch") == 1
    store.close()


def test_no_address_space_at_all_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datastore, "_MAP_SIZE", 1 << 60)
    monkeypatch.setattr(datastore, "_MIN_MAP_SIZE", 1 << 59)

    with pytest.raises(DiskError, match="Cannot allocate memory"):
        open_datastore(tmp_path, make=True)
    monkeypatch.undo()
    open_datastore(tmp_path, make=True).close()


def test_a_map_that_another_process_outgrew_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(datastore, "_MAP_SIZE", 1 << 17)
        store = open_datastore(tmp_path, make=True)
    code = (
        "import sys, pathlib; from ipvcs.storage.datastore import open_datastore;"
        "store = open_datastore(pathlib.Path(sys.argv[1]), make=True)\n"
        "with store.write() as txn:\n"
        "    for n in range(4000): txn.put(n.to_bytes(4), bytes(100), db=store.memos)"
    )
    subprocess.run([sys.executable, "-c", code, os.fspath(tmp_path)], cwd=CHECKOUT, check=True)

    with store.read() as txn:
        assert txn.stat(store.memos)["entries"] == 4000
    with store.write() as txn:
        assert store.bump(txn, COUNTER_EPOCH) == 1
    store.close()


def test_a_failed_transaction_changes_nothing(tmp_path: Path) -> None:
    store = open_datastore(tmp_path, make=True)
    with suppress(ZeroDivisionError), store.write() as txn:
        store.bump(txn, COUNTER_EPOCH)
        raise ZeroDivisionError
    with store.read() as txn:
        assert store.counter(txn, COUNTER_EPOCH) == 0
    store.close()


@pytest.mark.parametrize("content", [b"\0" * 8192, b"garbage" * 2000, b"short"])
def test_a_damaged_index_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)

    with pytest.raises(DiskError, match=r"the index of '.*' is damaged") as caught:
        open_datastore(tmp_path, make=True)
    assert "repo verify" in str(caught.value.hint)


def test_a_directory_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        assert run_in_fork(lambda: _as_nobody(tmp_path)) == 0
    else:
        _refused(tmp_path)


def _as_nobody(path: Path) -> None:
    path.chmod(0o700)
    os.setuid(65534)
    _refused(path)


def _refused(path: Path) -> None:
    if os.geteuid() != 65534:
        path.chmod(0)
    with pytest.raises(PermissionDeniedError, match="permission denied"):
        open_datastore(path)

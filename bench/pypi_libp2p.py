"""PyPI's `libp2p` for comparison, in a virtual environment of its own in the test cache: it needs 64 packages.

python -m bench.pypi_libp2p      install it if need be; the only step that needs an index
"""

import subprocess
import sys
import venv
from pathlib import Path

from tests.interop import cache

RELEASE = "libp2p==0.8.1"


def python() -> Path:
    """Return the interpreter that has it.

    Raises:
        MissingPeerError: it is not installed.
    """
    path = _folder() / "bin" / "python"
    if not (_folder() / ".installed").exists():
        raise cache.MissingPeerError(f"{RELEASE} is not at '{_folder()}'\nrun `python -m bench.pypi_libp2p`")
    return path


def _folder() -> Path:
    return cache.cache_directory() / f"{RELEASE.replace('==', '-')}-py{sys.version_info.major}.{sys.version_info.minor}"


def main() -> None:
    """Make the environment. It can't be renamed into place as the peers are, so a mark says that it is whole."""
    folder = _folder()
    if (folder / ".installed").exists():
        return
    print(f"installing {RELEASE} into {folder}", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", RELEASE], check=True, stderr=subprocess.DEVNULL)
    (folder / ".installed").touch()


if __name__ == "__main__":
    main()

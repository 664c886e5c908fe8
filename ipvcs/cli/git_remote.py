"""`git-remote-ipfs` and `git-remote-ipns`, which git runs for `ipfs::…`, `ipfs://…` and `ipns://…`.

git-remote-ipfs <remote> <address or URL>       with GIT_DIR set, the protocol on stdin and stdout
git-remote-ipfs --help                          for people
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from ipvcs.cli.app import App
    from ipvcs.cli.fetching import FetchingBlocks
    from ipvcs.git_bridge.fetch import FetchWay
    from ipvcs.git_bridge.names import Names
    from ipvcs.git_bridge.progress import GitProgress
    from ipvcs.git_bridge.remote_owner import Owner
    from ipvcs.multiformats.peer_id import PeerId
    from ipvcs.storage.home import Home


_PATIENCE: Final = 30.0
"""Seconds without a block after which a fetch gives up: who waits for git would like to know."""


def main() -> NoReturn:
    """Answer git, and exit."""
    from ipvcs.cli.main import exit_after, guarded

    exit_after(lambda: guarded(_run))


def _run() -> int:
    if sys.argv[1:] in (["-h"], ["--help"]):
        from ipvcs.cli.git_remote_help import HELP

        sys.stdout.write(HELP)
        return 0
    from ipvcs.cli.app import App
    from ipvcs.errors import UsageError
    from ipvcs.git_bridge.git import GitRepository
    from ipvcs.git_bridge.remote_helper import RemoteHelper
    from ipvcs.git_bridge.remote_url import parse_remote_url

    git_dir = os.environ.get("GIT_DIR", ".git")  # `git ls-remote` outside of any repository sets none, and needs none
    if len(sys.argv) not in (2, 3):
        name = Path(sys.argv[0]).name
        raise UsageError(
            f"{name} is run by git itself, for remotes such as 'ipfs::/ipns/<NodeId>'",
            hint=f"`git clone ipfs::/ipns/<NodeId>` runs it; `{name} --help` says more",
        )
    app = App(None, os.environ)
    try:
        url = parse_remote_url(sys.argv[-1])
        # Whatever runs below this has the directory of the daemon or of git, not ours.
        repository = GitRepository(Path(git_dir).absolute(), os.environ)
        way = _fetch_way(os.environ.get("IPVCS_FETCH", ""))
        stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
        RemoteHelper(url, repository, _HelperNode(app), stdin, stdout, way=way).run()
    finally:
        app.close()
    return 0


def _fetch_way(text: str) -> "FetchWay | None":
    from ipvcs.errors import UsageError
    from ipvcs.git_bridge.fetch import FetchWay

    try:
        return FetchWay(text) if text else None
    except ValueError:
        raise UsageError(f"IPVCS_FETCH is '{text}'", hint="'packs', 'objects', or not set: whichever suits") from None


class _HelperNode:
    """The home and its node, for the helper."""

    def __init__(self, app: "App") -> None:
        self._app = app
        app.fetch_timeout = _PATIENCE
        app.ui.bars = False  # git shows how far it is, and we in its manner
        self._names: Names | None = None

    @property
    def home(self) -> "Home":
        return self._app.home

    @property
    def reader(self) -> "FetchingBlocks":
        return self._app.blocks

    @property
    def names(self) -> "Names":
        if self._names is None:
            from ipvcs.git_bridge.names import Names

            self._names = Names(self._app.home, self._app.client())
        return self._names

    def find_key(self, name: str) -> "tuple[str, PeerId] | None":
        from ipvcs.multiformats.peer_id import PeerId, PeerIdError

        keystore = self._app.keystore
        own = keystore.node_public_key().peer_id
        names = keystore.names()
        if name in names:
            return name, keystore.find(name).public_key.peer_id
        try:
            wanted = PeerId.parse(name)
        except PeerIdError:
            return None
        if wanted == own:
            return "self", own
        keys = ((each, keystore.find(each).public_key.peer_id) for each in names)
        return next((found for found in keys if found[1] == wanted), None)

    def owner(self, peer: "PeerId") -> "Owner":
        from ipvcs.git_bridge.remote_owner import Owner

        return Owner(self._app.client(), peer)

    @property
    def stays(self) -> bool:
        from ipvcs.cli.daemon_client import is_within

        return not is_within(self._app)

    def note(self, line: str) -> None:
        self._app.ui.note(line)

    def progress(self, title: str, *, delay: float = 0.0) -> "GitProgress":
        from ipvcs.git_bridge.progress import GitProgress

        return GitProgress(title, _write_error, time.monotonic, delay=delay)


def _write_error(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()

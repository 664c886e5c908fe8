"""How a command reaches its home's node: a daemon that runs, one that is started for it, or a node of its own."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipvcs.client.autostart import Autostart
from ipvcs.client.client import Client
from ipvcs.client.daemon_lock import DaemonRunningError, holder
from ipvcs.client.socket_path import DaemonNotRunningError, find_socket
from ipvcs.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipvcs.cli.app import App
    from ipvcs.client.daemon_lock import Holder

_PATHS: Final = ("IPVCS_PASSPHRASE_FILE", "XDG_RUNTIME_DIR")
"""Variables of ours that hold a path and that a daemon reads."""
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


class NodeWithinRefusedError(ConflictError):
    """IPVCS_NO_DAEMON asks for a node within the command, but the home has one already."""

    def __init__(self, home: Path, found: "Holder") -> None:
        running = DaemonRunningError(home, found)
        super().__init__(
            f"{running}, and one identity can't be in two places",
            hint=running.hint if found.command else "unset IPVCS_NO_DAEMON to use the daemon, or end it first",
        )
        self.home = home
        self.holder = found


def running_client(app: "App") -> Client:
    """Return a client of the daemon that runs. Raises DaemonNotRunningError."""
    try:
        client = Client(find_socket(app.home_path))
    except DaemonNotRunningError as exc:
        raise _not_running(app) from exc
    if not client.is_running():
        raise _not_running(app)
    return client


def is_within(app: "App") -> bool:
    """Whether the node that a command needs is to live within it (IPVCS_NO_DAEMON)."""
    return app.environ.get("IPVCS_NO_DAEMON", "").lower() not in _FALSE


def node_client(app: "App", *, loopback_only: bool = False) -> Client:
    """Return a client of the home's node, which is started if it must be.

    `loopback_only` is for what such a daemon must not open to others by itself, as for a clone.

    Raises:
        AutostartError, DaemonRunningError: see `Autostart.ensure`.
        NodeWithinRefusedError: IPVCS_NO_DAEMON is set while the home's node runs elsewhere.
        DaemonNotRunningError: none runs, and `Daemon.Autostart` is off.
    """
    if is_within(app):
        return _start_within(app)
    try:
        return running_client(app)
    except DaemonNotRunningError:
        if not app.home.config.get("Daemon.Autostart"):
            raise
    home = app.home.path
    starter = Autostart(home, _absolute_paths(app.environ), ["--loopback-only"] if loopback_only else [])
    if starter.ensure(lambda: _is_running(home)) is not None:
        app.ui.note(f"started a daemon in the background; `{app.command_line('shutdown')}` ends it")
    return Client(find_socket(home))


def _start_within(app: "App") -> Client:
    if (found := holder(app.home_path)) is not None:  # before the home is opened and a passphrase asked for
        raise NodeWithinRefusedError(app.home_path, found)
    from ipvcs.api.in_process import InProcessDaemon
    from ipvcs.api.logs import configure
    from ipvcs.node.node import open_node

    configure(app.log_levels)
    try:
        key = app.keystore.node_key()
        node = InProcessDaemon.start(app.home, key, open_node=partial(open_node, keystore=app.unattended_keystore))
    except DaemonRunningError as exc:
        raise NodeWithinRefusedError(exc.home, exc.holder) from exc
    app.at_end(node.close)
    return Client(node.socket)


def _is_running(home: Path) -> bool:
    try:
        return Client(find_socket(home)).is_running()
    except DaemonNotRunningError:
        return False


def _absolute_paths(environ: "Mapping[str, str]") -> dict[str, str]:
    """Return the environment with paths that hold in any working directory: the daemon's is another."""
    found = {name: str(Path(environ[name]).expanduser().absolute()) for name in _PATHS if environ.get(name)}
    return {**environ, **found}


def _not_running(app: "App") -> DaemonNotRunningError:
    error = DaemonNotRunningError(app.home_path)
    error.hint = f"start one with `{app.command_line('daemon')}`"
    return error

"""A node within a command (IPVCS_NO_DAEMON=1): the daemon's own composition, in a thread of the command.

The command speaks to it as to any daemon, through a socket, which lies in a directory that nobody else can enter. It
holds the home's daemon lock: one host an identity.
"""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from anyio.from_thread import start_blocking_portal

from ipvcs.api.daemon import DaemonOptions, OpenNode, ServeApi, open_daemon
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.storage.home import Home


class InProcessDaemon:
    """A node within this process, until `close`. `socket` is where its API listens."""

    def __init__(self, socket: Path, resources: ExitStack) -> None:
        self.socket = socket
        self._resources = resources

    @classmethod
    def start(
        cls,
        home: Home,
        private_key: PrivateKey,
        *,
        open_node: OpenNode | None = None,
        serve_api: ServeApi | None = None,
    ) -> Self:
        """Start the node of `home`, which the command has open, and return when its API is served.

        Raises:
            DaemonRunningError: a daemon or another command runs this home's node.
            ListenError: an address can't be bound.
        """
        with ExitStack() as resources:
            # Not within the home, whose path may be too long for a socket; mkdtemp's directory is 0700.
            directory = Path(tempfile.mkdtemp(prefix="ipvcs-"))
            resources.callback(shutil.rmtree, directory, ignore_errors=True)
            options = DaemonOptions(socket=directory / "api.sock", tcp=False, within_command=True)
            portal = resources.enter_context(start_blocking_portal("asyncio"))
            running = open_daemon(home, private_key, options, open_node=open_node, serve_api=serve_api)
            resources.enter_context(portal.wrap_async_context_manager(running))
            return cls(directory / "api.sock", resources.pop_all())
        raise AssertionError("an exit stack passes errors on")

    def close(self) -> None:
        """End the node. May be called again."""
        self._resources.close()

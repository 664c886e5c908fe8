"""`bootstrap …`: the peers by whom the daemon joins the network when it starts next.

Shapes: Kubo's core/commands/bootstrap.go, BootstrapOutput. `default` adds the public network's peers themselves; Kubo
since 0.37 adds a placeholder that it resolves by a service of its own.
"""

from collections.abc import Callable
from typing import Any, Final

import anyio.to_thread

from ipvcs.api.command import Call, Command
from ipvcs.storage.bootstrap import DEFAULT, add_bootstrap, clear_bootstrap, list_bootstrap, remove_bootstrap

_MAX_PEERS: Final = 100
"""Arguments of `add` and `rm`."""


async def show(call: Call) -> dict[str, Any]:
    """List the peers."""
    return await _peers(lambda: list_bootstrap(call.node.config))


async def add(call: Call) -> dict[str, Any]:
    """Add the peers named; `default`, or the option of that name, are the public network's."""
    wanted = [*call.arguments.args, *([DEFAULT] if call.arguments.flag("default") else [])]
    return await _peers(lambda: add_bootstrap(call.node.config, wanted))


async def add_default(call: Call) -> dict[str, Any]:
    """Add the public network's peers."""
    return await _peers(lambda: add_bootstrap(call.node.config, [DEFAULT]))


async def remove(call: Call) -> dict[str, Any]:
    """Remove the peers named, or with the option `all` every peer."""
    if call.arguments.flag("all"):
        return await remove_all(call)
    return await _peers(lambda: remove_bootstrap(call.node.config, call.arguments.args))


async def remove_all(call: Call) -> dict[str, Any]:
    """Remove every peer."""
    return await _peers(lambda: clear_bootstrap(call.node.config))


async def _peers(work: Callable[[], list[str]]) -> dict[str, Any]:
    return {"Peers": await anyio.to_thread.run_sync(work)}  # it waits for the disk, and for other processes' lock


COMMANDS: Final = (
    Command("bootstrap", show),
    Command("bootstrap/list", show),
    Command("bootstrap/add", add, most=_MAX_PEERS),
    Command("bootstrap/add/default", add_default),
    Command("bootstrap/rm", remove, most=_MAX_PEERS),
    Command("bootstrap/rm/all", remove_all),
)

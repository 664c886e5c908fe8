"""`version` and `shutdown`: what the daemon is, and its end.

Shapes: Kubo's version.go, VersionInfo, and core/commands/shutdown.go.
"""

import platform
from typing import Any, Final

from ipvcs import __version__
from ipvcs.api.command import Call, Command
from ipvcs.storage.home import VERSION as HOME_VERSION

_GO_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
"""Go's names of processors, which is what clients know."""


async def version(_call: Call) -> dict[str, Any]:
    """Tell which version this is. `Golang` is part of the shape, and empty."""
    machine = platform.machine()
    return {
        "Version": __version__,
        "Commit": "",
        "Repo": str(HOME_VERSION),
        "System": f"{_GO_MACHINES.get(machine, machine)}/{platform.system().lower()}",
        "Golang": "",
    }


async def shutdown(call: Call) -> None:
    """Ask the daemon to end. The answer, which is empty, comes before the end."""
    call.shutdown()


COMMANDS: Final = (Command("version", version), Command("shutdown", shutdown))

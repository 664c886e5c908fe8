"""`log …`: how much the daemon logs, while it runs.

Shapes: Kubo's core/commands/log.go, logLevelOutput and stringList. Subsystems are our modules, as "node.network.swarm".
"""

import logging
from typing import Any, Final

from ipvcs.api import logs
from ipvcs.api.command import Call, Command

_DEFAULT: Final = "default"
"""As a level: the one that subsystems have for which none was set."""
_NAMES: Final = (
    (logging.CRITICAL, "fatal"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warn"),
    (logging.INFO, "info"),
)
"""Kubo's names of levels, from the highest on."""
_DEFAULT_ROW: Final = "(default)"
"""Kubo's key of that level among those of subsystems."""


async def level(call: Call) -> dict[str, Any]:
    """Set the level of a subsystem, or tell it: of one, of all (`all` or `*`), or the default one if none is named."""
    subsystem, wanted = call.arguments.try_arg(0), call.arguments.try_arg(1)
    if subsystem is None:
        return {"Levels": {"": _level_name(logs.ROOT)}}
    if wanted:
        logs.check_subsystem(subsystem)
        wanted = _level_name(logs.ROOT) if wanted == _DEFAULT else wanted
        logs.set_level(subsystem, wanted)
        shown = "*" if subsystem in logs.ALL else subsystem
        return {"Message": f"Changed log level of '{shown}' to '{wanted}'\n"}
    if subsystem in logs.ALL:
        levels = {name: _level_name(name) for name in logs.subsystems()}
        return {"Levels": {_DEFAULT_ROW: _level_name(logs.ROOT), **levels}}
    logs.check_subsystem(subsystem)
    return {"Levels": {subsystem: _level_name(subsystem)}}


async def subsystems(_call: Call) -> dict[str, Any]:
    """List the subsystems that log."""
    return {"Strings": logs.subsystems()}


def _level_name(subsystem: str) -> str:
    """Return the level at which `subsystem` logs, its own or one that it inherits, by Kubo's name."""
    is_full = subsystem == logs.ROOT or subsystem.startswith(f"{logs.ROOT}.")
    number = logging.getLogger(subsystem if is_full else f"{logs.ROOT}.{subsystem}").getEffectiveLevel()
    return next((name for bound, name in _NAMES if number >= bound), "debug")


COMMANDS: Final = (Command("log/level", level, most=2), Command("log/ls", subsystems))

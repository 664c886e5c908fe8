"""`ipvcs shutdown`: end the home's daemon."""

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, json_option
from ipvcs.errors import UnavailableError

if TYPE_CHECKING:
    from ipvcs.client.daemon_lock import Holder

_PATIENCE: Final = 10.0
"""Seconds: twice what a daemon may take to end."""
_ANSWER: Final = 3.0
"""Seconds for it to say that it will."""


class StillRunningError(UnavailableError):
    """The daemon was told to end and has not."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(
            f"the daemon (pid {pid or 'unknown'}) has not ended within {_PATIENCE:.0f} s",
            hint=f"`kill -KILL {pid}` ends it; nothing that is stored is lost" if pid else None,
        )


@click.command("shutdown", cls=Command)
@json_option
@click.pass_obj
def shutdown_command(app: App, as_json: bool) -> None:
    """End the home's daemon; returns when it has ended. One that does not answer gets a SIGTERM."""
    from ipvcs.client.client import DaemonBusyError, DaemonLostError
    from ipvcs.client.daemon_lock import holder, wait_released
    from ipvcs.client.socket_path import DaemonNotRunningError

    before = holder(app.home_path)
    try:
        app.client(start=False).call("shutdown", timeout=_ANSWER)
    except DaemonLostError:
        _terminate(before)  # it is stuck, or has ended before it answered
    except (DaemonBusyError, DaemonNotRunningError):
        if before is None or before.command:
            raise
        _terminate(before)  # its socket is gone, or has no room for us
    if before is not None and not wait_released(app.home_path, before, _PATIENCE):
        raise StillRunningError(before.pid)
    if as_json:
        app.ui.json({"Pid": before.pid if before else None})


def _terminate(before: "Holder | None") -> None:
    if before is not None and before.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(before.pid, signal.SIGTERM)

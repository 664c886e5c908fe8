"""`ipvcs shutdown`: end the home's daemon."""

from contextlib import suppress
from typing import Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, json_option
from ipvcs.errors import UnavailableError

_PATIENCE: Final = 10.0
"""Seconds: twice what a daemon may take to end."""


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
    """End the home's daemon; returns when it has ended."""
    from ipvcs.client.client import DaemonLostError
    from ipvcs.client.daemon_lock import holder, wait_released

    before = holder(app.home_path)
    client = app.client(start=False)
    with suppress(DaemonLostError):  # it may end before it has answered
        client.call("shutdown")
    if before is not None and not wait_released(app.home_path, before, _PATIENCE):
        raise StillRunningError(before.pid)
    if as_json:
        app.ui.json({"Pid": before.pid if before else None})

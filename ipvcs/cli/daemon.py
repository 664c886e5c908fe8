"""`ipvcs daemon`: keep the home's node up, in the foreground."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Number
from ipvcs.cli.ui import OutputError, ReaderGoneError, output_errors


@click.command("daemon", cls=Command)
@click.option(
    "--log-level",
    "levels",
    metavar="LEVELS",
    help="What to log: LEVEL, or SUBSYSTEM=LEVEL, several by commas.  [default: $IPVCS_LOG, else warning]",
)
@click.option("--loopback-only", is_flag=True, help="Listen for peers on this machine's own addresses alone.")
@click.option("--ready-fd", type=Number(3), hidden=True, help="For a command that starts us in the background.")
@click.pass_obj
def daemon_command(app: App, levels: str | None, loopback_only: bool, ready_fd: int | None) -> None:
    """Keep the node up: listen for peers, serve the API.

    Prints where it listens, then `Daemon is ready`, and runs until a signal or `ipvcs shutdown` ends it. Logs go to
    standard error; `ipvcs log level` changes at run time what is logged.
    """
    import anyio

    from ipvcs.api.background_log import BackgroundLog
    from ipvcs.api.daemon import DaemonOptions, end_at_last, run_daemon
    from ipvcs.api.logs import configure
    from ipvcs.api.readiness import ReadyPipe
    from ipvcs.client.autostart import LOG_NAME
    from ipvcs.node.node import open_node

    with ExitStack() as stack:
        # First of all, so that whoever waits hears of every error.
        pipe = stack.enter_context(ReadyPipe(ready_fd)) if ready_fd is not None else None
        log = BackgroundLog(app.home_path / LOG_NAME) if pipe is not None else None
        configure(levels or app.log_levels, log)
        idle = app.home.config.get("Daemon.Idle") if pipe else 0
        runtime = app.environ.get("XDG_RUNTIME_DIR")
        options = DaemonOptions(
            runtime=Path(runtime) if runtime else None,
            loopback_only=loopback_only,
            idle=idle or None,
            environ=app.environ,
        )
        # Not on uvloop: its clock stands still within a turn of the loop and ticks in milliseconds, so `ping` would
        # measure nothing on a fast network.
        anyio.run(
            partial(
                run_daemon,
                app.home,
                app.keystore.node_key(),
                options,
                say=_speaker(app),
                ready=pipe.ready if pipe else _do_nothing,
                ending=end_at_last,
                open_node=partial(open_node, keystore=app.unattended_keystore),
            )
        )


def _speaker(app: App) -> Callable[[str], None]:
    """Return what prints a line at once. That nobody reads it, as behind `| head -1`, is no reason to end."""

    def say(line: str) -> None:
        try:
            app.ui.data(line)
            with output_errors():
                sys.stdout.flush()
        except (ReaderGoneError, OutputError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)

    return say


def _do_nothing() -> None:
    pass

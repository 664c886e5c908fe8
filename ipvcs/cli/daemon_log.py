"""`ipvcs log level` and `ipvcs log ls`: what the daemon logs."""

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, json_option


@click.group("log", cls=Group)
def daemon_log() -> None:
    """Look at and change what the daemon logs."""


@daemon_log.command("level")
@click.argument("words", nargs=-1, required=True, metavar="[SUBSYSTEM] LEVEL")
@json_option
@click.pass_obj
def level(app: App, words: tuple[str, ...], as_json: bool) -> None:
    """Log SUBSYSTEM, or all, from LEVEL on: debug, info, warning, error or fatal. Until the daemon ends."""
    if len(words) > 2:
        raise click.UsageError("takes a subsystem and a level")
    from ipvcs.api.logs import parse_level

    subsystem, wanted = words if len(words) == 2 else ("all", words[0])
    parse_level(wanted)
    answer = app.client(start=False).call("log/level", subsystem, wanted)
    if as_json:
        app.ui.json(answer)
    else:
        app.ui.data(str(answer.get("Message", "")).rstrip("\n"))


@daemon_log.command("ls")
@json_option
@click.pass_obj
def ls(app: App, as_json: bool) -> None:
    """List the subsystems."""
    answer = app.client(start=False).call("log/ls")
    if as_json:
        app.ui.json(answer)
        return
    for name in answer.get("Strings") or []:
        app.ui.data(name)

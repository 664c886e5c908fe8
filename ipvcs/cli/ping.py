"""`ipvcs ping`: round trips to a peer."""

import sys

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Number, json_option
from ipvcs.cli.ui import output_errors


@click.command("ping", cls=Command)
@click.argument("peer")
@click.option("-n", "--count", type=Number(1), default=10, help="How many times.  [default: 10]")
@json_option
@click.pass_obj
def ping_command(app: App, peer: str, count: int, as_json: bool) -> int:
    """Measure round trips to PEER, a NodeId or a multiaddr that ends in one. Exit status 1 if it never answers."""
    from ipvcs.client.client import RemoteCommandError
    from ipvcs.multiformats.peer_address import parse_peer

    parse_peer(peer)  # before a daemon is started for a slip of the pen
    client = app.client()
    answered = 0
    try:
        for answer in client.stream("ping", peer, count=count):
            if as_json:
                app.ui.json(answer)
            elif text := answer.get("Text"):
                app.ui.data(text)
            elif answer.get("Success"):
                app.ui.data(f"Pong received: time={answer['Time'] / 1e6:.2f} ms")
            answered += bool(answer.get("Success") and not answer.get("Text"))
            with output_errors():
                sys.stdout.flush()  # whoever watches through a pipe wants to see each
    except RemoteCommandError as exc:
        if answered or exc.exit_code != RemoteCommandError.exit_code:
            raise
        raise RemoteCommandError.make(str(exc), exc.hint, 1) from exc  # out of reach is the answer, not a failure
    return 0 if answered else 1

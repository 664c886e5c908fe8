"""`ipvcs swarm`: the node's connections to peers."""

from typing import Any, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, json_option

_DIRECTIONS: Final = {1: "inbound", 2: "outbound"}
"""Kubo's numbers; 0 is unknown."""


@click.group("swarm", cls=Group)
def swarm_command() -> None:
    """Look at and change the node's connections to peers."""


@swarm_command.command("peers")
@click.option("-v", "--verbose", is_flag=True, help="Show everything that is known.")
@click.option("--streams", is_flag=True, help="Show the protocols of each connection's open streams.")
@click.option("--latency", is_flag=True, help="Show the round-trip times.")
@click.option("--direction", is_flag=True, help="Show who dialled.")
@click.option("--identify", is_flag=True, help="Show what each peer says about itself.")
@json_option
@click.pass_obj
def peers(
    app: App, verbose: bool, streams: bool, latency: bool, direction: bool, identify: bool, as_json: bool
) -> None:
    """List the peers that we are connected to, a connection a line."""
    answer = app.client(start=False).call(
        "swarm/peers", verbose=verbose, streams=streams, latency=latency, direction=direction, identify=identify
    )
    if as_json:
        app.ui.json(answer)
        return
    for peer in answer.get("Peers") or []:
        for line in peer_lines(peer):
            app.ui.data(line)


def peer_lines(peer: dict[str, Any]) -> list[str]:
    """Return a connection as Kubo prints it: address, round trip, direction; then its streams and what it says."""
    end = f"/p2p/{peer['Peer']}"
    address: str = peer["Addr"]
    words = [address if address.endswith(end) else address + end]
    words += [word for word in (peer.get("Latency"), _DIRECTIONS.get(peer.get("Direction", 0))) if word]
    lines = [" ".join(words)]
    lines += [f"  {stream['Protocol'] or '<no protocol name>'}" for stream in peer.get("Streams") or []]
    if about := {name: value for name, value in (peer.get("Identify") or {}).items() if value}:
        lines += [
            f"  {name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in about.items()
        ]
    return lines


@swarm_command.group("addrs", invoke_without_command=True)
@json_option
@click.pass_context
def addrs(ctx: click.Context, as_json: bool) -> None:
    """List the addresses of peers that we know of; `local` and `listen`: our own."""
    if ctx.invoked_subcommand is not None:
        return
    app: App = ctx.obj
    answer = app.client(start=False).call("swarm/addrs")
    if as_json:
        app.ui.json(answer)
        return
    for peer, addresses in sorted((answer.get("Addrs") or {}).items()):
        app.ui.data(f"{peer} ({len(addresses)})")
        for address in addresses:
            app.ui.data(f"\t{address}")


@addrs.command("local")
@click.option("--id", "with_id", is_flag=True, help="Append our NodeId to each address.")
@json_option
@click.pass_obj
def local(app: App, with_id: bool, as_json: bool) -> None:
    """List the addresses at which others may reach us."""
    _print_strings(app, app.client(start=False).call("swarm/addrs/local", id=with_id), as_json)


@addrs.command("listen")
@json_option
@click.pass_obj
def listen(app: App, as_json: bool) -> None:
    """List the addresses that we listen on."""
    _print_strings(app, app.client(start=False).call("swarm/addrs/listen"), as_json)


@swarm_command.command("connect")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS…")
@json_option
@click.pass_obj
def connect(app: App, addresses: tuple[str, ...], as_json: bool) -> None:
    """Connect to the peer at each ADDRESS, a multiaddr that ends in /p2p/NODEID."""
    from ipvcs.multiformats.peer_address import parse_peer_address

    for address in addresses:
        parse_peer_address(address)  # before a daemon is started for a slip of the pen
    _print_strings(app, app.client().call("swarm/connect", *addresses), as_json)


@swarm_command.command("disconnect")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS…")
@json_option
@click.pass_obj
def disconnect(app: App, addresses: tuple[str, ...], as_json: bool) -> int:
    """End the connection to each ADDRESS, a multiaddr that ends in /p2p/NODEID; `/p2p/NODEID` alone: all to a peer.

    Exit status 1 if there was none.
    """
    from ipvcs.multiformats.peer_address import parse_peer_address

    for address in addresses:
        parse_peer_address(address)
    answer = app.client(start=False).call("swarm/disconnect", *addresses)
    _print_strings(app, answer, as_json)
    return 0 if all(line.endswith(" success") for line in answer.get("Strings") or []) else 1


def _print_strings(app: App, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        app.ui.json(answer)
        return
    for line in answer.get("Strings") or []:
        app.ui.data(line)

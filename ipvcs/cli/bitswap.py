"""`ipvcs bitswap`: what is exchanged with peers."""

import math
from typing import Any, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, json_option
from ipvcs.multiformats.typed import parse_typed

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
"""Kubo prints powers of 1000 here."""


@click.group("bitswap", cls=Group)
def bitswap_command() -> None:
    """Look at what is exchanged with peers, and what is wanted."""


@bitswap_command.command("ledger")
@click.argument("peer")
@json_option
@click.pass_obj
def ledger(app: App, peer: str, as_json: bool) -> None:
    """Show what was exchanged with PEER, a NodeId, and what it owes us."""
    from ipvcs.multiformats.peer_id import PeerId

    parse_typed(PeerId.parse, peer)
    answer = app.client(start=False).call("bitswap/ledger", peer)
    if as_json:
        app.ui.json(answer)
        return
    for line in ledger_lines(answer):
        app.ui.data(line)


@bitswap_command.command("stat")
@click.option("-v", "--verbose", is_flag=True, help="Name the partners, too.")
@click.option("--human", is_flag=True, help="Print sizes in MB and the like.")
@json_option
@click.pass_obj
def stat(app: App, verbose: bool, human: bool, as_json: bool) -> None:
    """Show what was exchanged since the daemon started."""
    answer = app.client(start=False).call("bitswap/stat")
    if as_json:
        app.ui.json(answer)
        return
    for line in stat_lines(answer, verbose=verbose, human=human):
        app.ui.data(line)


@bitswap_command.command("wantlist")
@click.option("-p", "--peer", metavar="NODEID", help="Show what this peer wants of us.  [default: our own]")
@json_option
@click.pass_obj
def wantlist(app: App, peer: str | None, as_json: bool) -> None:
    """List the blocks that are wanted, a CID a line."""
    from ipvcs.multiformats.peer_id import PeerId

    if peer is not None:
        parse_typed(PeerId.parse, peer)
    answer = app.client(start=False).call("bitswap/wantlist", peer=peer)
    if as_json:
        app.ui.json(answer)
        return
    for key in answer.get("Keys") or []:
        app.ui.data(key["/"])


def ledger_lines(answer: dict[str, Any]) -> list[str]:
    """Return a ledger as Kubo prints it, its empty last line included."""
    return [
        f"Ledger for {answer['Peer']}",
        f"Debt ratio:\t{answer['Value']:f}",
        f"Exchanges:\t{answer['Exchanged']}",
        f"Bytes sent:\t{answer['Sent']}",
        f"Bytes received:\t{answer['Recv']}",
        "",
    ]


def stat_lines(answer: dict[str, Any], *, verbose: bool = False, human: bool = False) -> list[str]:
    """Return the counts as Kubo prints them."""
    size = human_size if human else str
    wants, partners = answer.get("Wantlist") or [], answer.get("Peers") or []
    lines = [
        "bitswap status",
        f"\tblocks received: {answer['BlocksReceived']}",
        f"\tblocks sent: {answer['BlocksSent']}",
        f"\tdata received: {size(answer['DataReceived'])}",
        f"\tdata sent: {size(answer['DataSent'])}",
        f"\tdup blocks received: {answer['DupBlksReceived']}",
        f"\tdup data received: {size(answer['DupDataReceived'])}",
        f"\twantlist [{len(wants)} keys]",
        *(f"\t\t{key['/']}" for key in wants),
        f"\tpartners [{len(partners)}]",
    ]
    return lines + [f"\t\t{peer}" for peer in partners if verbose]


def human_size(count: int) -> str:
    """Return a number of bytes in the largest unit of which there is one, as Kubo prints it: `83 MB`, `1.5 kB`."""
    unit = 0
    while unit < len(_UNITS) - 1 and count >= 1000 ** (unit + 1):
        unit += 1
    value = math.floor(count / 1000**unit * 10 + 0.5) / 10
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 10 else f"{value:.0f} {_UNITS[unit]}"

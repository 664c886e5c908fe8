"""`ipvcs stats`: what the node has done, and whom it knows."""

from datetime import UTC, datetime
from typing import Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, json_option


@click.group("stats", cls=Group)
def stats_command() -> None:
    """Look at what the node knows and does."""


@stats_command.command("dht")
@click.argument("names", nargs=-1, metavar="[lan|wan]…")
@json_option
@click.pass_obj
def dht(app: App, names: tuple[str, ...], as_json: bool) -> None:
    """Print who is in the routing tables of the DHTs. `@` marks those that we are connected to.

    A bucket's number is how many leading bits of their place in the keyspace its peers share with us.
    """
    now = datetime.now(UTC)
    for table in app.client(start=False).stream("stats/dht", *names):
        if as_json:
            app.ui.json(table)
        else:
            for line in table_lines(table, now):
                app.ui.data(line)


@stats_command.command("provide")
@json_option
@click.pass_obj
def provide(app: App, as_json: bool) -> None:
    """Print how much was announced since the daemon started, for each network."""
    for stats in app.client(start=False).stream("stats/provide"):
        if as_json:
            app.ui.json(stats)
            continue
        for line in provide_lines(stats):
            app.ui.data(line)


def table_lines(table: dict[str, Any], now: datetime) -> list[str]:
    """Return a routing table as Kubo prints it: its buckets, a peer a line, times as what has passed until `now`."""
    buckets = table.get("Buckets") or []
    count = sum(len(bucket.get("Peers") or []) for bucket in buckets)
    lines = [f"DHT {table['Name']} ({count} peers):"]
    for number, bucket in enumerate(buckets):
        peers = bucket.get("Peers") or []
        refreshed = _ago(bucket.get("LastRefresh"), now)
        lines.append(f"  Bucket {number:2d} ({len(peers)} peers) - refreshed {refreshed}:")
        if peers:
            rows = [("Peer", "last useful", "last queried", "Agent Version")]
            rows += [_peer_row(peer, now) for peer in peers]
            lines += [f"  {mark} {line}" for mark, line in zip(_marks(peers), _columns(rows), strict=True)]
    return lines


def provide_lines(stats: dict[str, Any]) -> list[str]:
    """Return what was announced as lines of a name and a value."""
    interval = stats.get("ReprovideInterval") or 0
    shown: list[tuple[str, str]] = [
        ("Announced", str(stats["TotalReprovides"])),
        ("Average duration", _duration(stats["AvgReprovideDuration"])),
        ("Last batch", f"{stats['LastReprovideBatchSize']} in {_duration(stats['LastReprovideDuration'])}"),
        ("Again after", _duration(interval) if interval else "never"),
    ]
    head = [f"{stats['Name']}:"] if stats.get("Name") else []
    return head + [f"  {name}: {value}" for name, value in shown]


def _marks(peers: list[dict[str, Any]]) -> list[str]:
    return [" ", *("@" if peer.get("Connected") else " " for peer in peers)]


def _peer_row(peer: dict[str, Any], now: datetime) -> tuple[str, str, str, str]:
    useful, queried = _ago(peer.get("LastUsefulAt"), now), _ago(peer.get("LastQueriedAt"), now)
    return peer["ID"], useful, queried, peer.get("AgentVersion") or ""


def _columns(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """Return rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _ago(text: str | None, now: datetime) -> str:
    if not text:
        return "never"
    passed = max(0, round((now - datetime.fromisoformat(text)).total_seconds()))
    return f"{_duration(passed * 10**9)} ago"


def _duration(nanoseconds: int) -> str:
    """Return a duration in Go's form, to the millisecond."""
    from ipvcs.api.duration import format_duration

    return format_duration(round(nanoseconds / 10**6) * 10**6)

"""`ipvcs name`: names that can be made to point at something else."""

import base64
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, Number, json_option
from ipvcs.cli.ui import output_errors
from ipvcs.multiformats.typed import parse_typed

if TYPE_CHECKING:
    from ipvcs.multiformats.peer_id import PeerId
    from ipvcs.node.naming.record import IpnsRecord


@click.group("name", cls=Group)
def name_command() -> None:
    """Publish under names, and find out where names lead.

    A name is the NodeId of a key: `k51…`. Where it leads is said by a record that the key signs.
    """


@name_command.command("publish")
@click.argument("path")
@click.option("-k", "--key", default="self", metavar="NAME", help="The key to publish with.  [default: self]")
@click.option("-t", "--lifetime", metavar="DURATION", help="How long the record is valid.  [default: 48h]")
@click.option("--ttl", metavar="DURATION", help="How long others may cache it.  [default: 5m]")
@click.option("--sequence", type=Number(0, (1 << 63) - 1), metavar="N", help="Its number.  [default: the next one]")
@click.option("--allow-offline", is_flag=True, help="That no peer takes the record is no error.")
@click.option("-Q", "--quieter", is_flag=True, help="Print the name alone.")
@json_option
@click.pass_obj
def publish(
    app: App,
    path: str,
    key: str,
    lifetime: str | None,
    ttl: str | None,
    sequence: int | None,
    allow_offline: bool,
    quieter: bool,
    as_json: bool,
) -> None:
    """Let the name of a key point at PATH: a CID, `/ipfs/CID[/…]` or `/ipns/NAME[/…]`.

    The daemon publishes it again every four hours, so it stays valid as long as that runs.
    """
    from ipvcs.api.duration import parse_duration
    from ipvcs.node.naming.name_path import NamePath

    value = str(
        parse_typed(lambda text: NamePath.parse(text, "ipfs"), path)
    )  # before a daemon is started for a slip of the pen
    for duration in (lifetime, ttl):
        if duration is not None:
            parse_duration(duration)
    answer = app.client().call(
        "name/publish",
        value,
        key=key,
        lifetime=lifetime,
        ttl=ttl,
        sequence=sequence,
        allow_offline=allow_offline,
    )
    if as_json:
        app.ui.json(answer)
    elif quieter:
        app.ui.data(answer["Name"])
    else:
        app.ui.data(f"Published to {answer['Name']}: {answer['Value']}")


@name_command.command("resolve")
@click.argument("name", required=False)
@click.option(
    "-r", "--recursive/--no-recursive", default=True, help="Go on until the path is no name's.  [default: on]"
)
@click.option("-n", "--nocache", is_flag=True, help="Ask, however fresh what is known is.")
@click.option("--dht-record-count", type=Number(0, 1024), metavar="N", help="Peers to hear from.  [default: 16]")
@click.option("--dht-timeout", metavar="DURATION", help="How long to search; 0s: no limit.  [default: 60s]")
@click.option("-s", "--stream", is_flag=True, help="Print each better answer as it comes.")
@json_option
@click.pass_obj
def resolve(
    app: App,
    name: str | None,
    recursive: bool,
    nocache: bool,
    dht_record_count: int | None,
    dht_timeout: str | None,
    stream: bool,
    as_json: bool,
) -> None:
    """Print where NAME leads: a NodeId, the name of a key of ours, or a domain. Without NAME: our own NodeId."""
    from ipvcs.api.duration import parse_duration
    from ipvcs.node.naming.name_path import NamePath

    if name is not None:
        parse_typed(lambda text: NamePath.parse(text, "ipns"), name)
    if dht_timeout is not None:
        parse_duration(dht_timeout)
    answers = app.client().stream(
        "name/resolve",
        *([] if name is None else [name]),
        recursive=recursive,
        nocache=nocache,
        dht_record_count=dht_record_count,
        dht_timeout=dht_timeout,
        stream=stream,
    )
    for answer in answers:
        if as_json:
            app.ui.json(answer)
        else:
            app.ui.data(answer["Path"])
            for warning in answer.get("Warnings") or []:
                app.ui.warn(warning)
        with output_errors():
            sys.stdout.flush()


@name_command.command("forget")
@click.argument("name")
@json_option
@click.pass_obj
def forget(app: App, name: str, as_json: bool) -> int:
    """Forget what was seen of NAME, so that an older or another record is believed again.

    What we published under it stays. Exit status 1 if nothing was known of it.
    """
    answer = app.client().call("name/forget", name)
    found = bool(answer.get("Forgotten"))
    if as_json:
        app.ui.json(answer)
    elif found:
        app.ui.data(f"forgot {answer['Name']}")
    else:
        app.ui.note(f"nothing is known of {answer['Name']}")
    return 0 if found else 1


@name_command.command("inspect")
@click.argument("file")
@click.option("--verify", "name", metavar="NAME", help="Check that it is a valid record of NAME.")
@json_option
@click.pass_obj
def inspect(app: App, file: str, name: str | None, as_json: bool) -> int:
    """Print what is in the IPNS record in FILE (`-`: standard input). Needs no daemon.

    With --verify, exit status 1 if it is not signed by the key of NAME, or has expired, or is no record at all.
    """
    from ipvcs.cli.block import read_input
    from ipvcs.multiformats.peer_id import PeerId
    from ipvcs.node.naming.record import MAX_RECORD, InvalidRecordError, IpnsRecord

    peer_id = None if name is None else parse_typed(PeerId.parse, name.removeprefix("/ipns/"))
    raw = read_input(file, MAX_RECORD)
    record, reason = None, ""
    try:
        record = IpnsRecord.decode(raw)
        if peer_id is not None:
            record.verify(peer_id)
            record.check_validity(time.time())
    except InvalidRecordError as exc:
        if peer_id is None:
            raise
        reason = str(exc)
    about = _describe(record, len(raw), peer_id, reason)
    if as_json:
        app.ui.json(about)
    else:
        for line in _lines(about):
            app.ui.data(line)
    return 1 if reason else 0


def _describe(record: "IpnsRecord | None", size: int, name: "PeerId | None", reason: str) -> dict[str, Any]:
    """Return what Kubo's `name inspect` tells, as JSON has it; no `Entry` if it is no record."""
    from ipvcs.multiformats.peer_id import PeerId

    about: dict[str, Any] = {"Entry": None, "PbSize": size, "SignatureType": ""}
    if record is not None:
        about["Entry"] = {
            "Value": record.value.decode("utf-8", "backslashreplace"),
            "ValidityType": 0,
            "Validity": record.validity.decode(),
            "Sequence": record.sequence,
            "TTL": record.ttl_ns,
            "PublicKey": "" if record.public_key is None else str(PeerId.from_public_key(record.public_key)),
            "SignatureV1": _multibase(record.signature_v1),
            "SignatureV2": _multibase(record.signature),
        }
        about["SignatureType"] = "V1+V2" if record.signature_v1 else "V2"
    about["Validation"] = None if name is None else {"Valid": not reason, "Reason": reason, "Name": name.to_base36()}
    return about


def _lines(about: dict[str, Any]) -> list[str]:
    from ipvcs.api.duration import format_duration

    rows: list[tuple[str, str]] = []
    if (entry := about["Entry"]) is not None:
        rows = [
            ("Value", _quoted(entry["Value"])),
            ("Validity Type", _quoted("EOL")),
            ("Validity", _quoted(entry["Validity"])),
            ("Sequence", str(entry["Sequence"])),
            ("TTL", format_duration(entry["TTL"])),
            ("PublicKey", _quoted(entry["PublicKey"])),
            ("Signature Type", _quoted(about["SignatureType"])),
            ("Signature V1", _quoted(entry["SignatureV1"])),
            ("Signature V2", _quoted(entry["SignatureV2"])),
            ("Protobuf Size", str(about["PbSize"])),
        ]
    lines = [f"{label + ':':<16}{text}" for label, text in rows]
    if (validation := about["Validation"]) is None:
        return [*lines, "", "This record was not verified. `--verify NAME` checks it."]
    lines += ["", "Validation results:", f"\tValid:\t{str(validation['Valid']).lower()}"]
    if validation["Reason"]:
        lines.append(f"\tReason:\t{validation['Reason']}")
    return [*lines, f"\tName:\t{validation['Name']}"]


def _multibase(data: bytes) -> str:
    return "m" + base64.b64encode(data).decode().rstrip("=") if data else ""


def _quoted(text: str) -> str:
    """Return `text`, which a stranger wrote, so that it can't drive a terminal."""
    return json.dumps(text, ensure_ascii=not text.isprintable())

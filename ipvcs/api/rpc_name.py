"""`name …`: publish under a name of ours, resolve names, and forget what was seen of one.

Shapes: Kubo's core/commands/name, IpnsEntry `{"Name", "Value"}` and ResolvedPath `{"Path"}`. Beside `Path` stands
`Warnings`, a list of texts, when the answer may not be the newest; `name/forget` is ours. Of the options of `publish`,
`quieter` is the command line's matter, and `resolve` makes no difference: what is published need not be here.

With `patience`, a duration, `publish` answers when the first peer took the record or when that has passed, and sending
goes on; then the answer has `Takers`, their NodeIds as far as they are known, `Trouble`, why there are none,
`Hidden`, whether this node listens where no other machine reaches it, and maybe `Rival`, `{"Sequence", "Value",
"Outranks"}`: a record that peers have from somebody else with our key, and whether others are given that one rather
than ours.

Compare-and-swap is ours, too: `resolve` with `newest` asks the network for a few seconds, and its answer has the
`State` of the name's own record, `{"Sequence", "Value"}`, null for a domain. `publish` with these in `expect-sequence`
and `expect-value` fails if somebody else has published meanwhile. The state of a name without a record is -1 and "".
With `may-be-unpublished`, for a name of ours, `resolve` takes that there is no record for an answer, with an empty
`Path`; `Warnings` say so if nobody could be asked.
"""

from collections.abc import Mapping
from typing import Any, Final

from ipvcs.api.arguments import Arguments, BadRequestError
from ipvcs.api.command import MAX_DEADLINE, Call, Command
from ipvcs.api.node_services import NodeServices
from ipvcs.errors import UnavailableError
from ipvcs.node.naming.publisher import TIMEOUT as PUBLISH_TIMEOUT
from ipvcs.node.naming.publisher import TTL
from ipvcs.node.naming.resolver import QUORUM, TIMEOUT, NameNotFoundError, Resolved
from ipvcs.node.naming.succession import UNPUBLISHED, State
from ipvcs.node.network.addresses import is_loopback

_DEADLINE: Final = 110.0
"""Seconds for `publish`, whose own time for the network is 60 s: its error comes first. A client waits for 120."""
_MAX_SEQUENCE: Final = (1 << 63) - 1
"""As much as a number in the query may have."""
_MAX_QUORUM: Final = 1024


async def publish(call: Call) -> dict[str, Any]:
    """Let the name of a key of ours point at the path given."""
    arguments = call.arguments
    has_lifetime = bool(arguments.text("lifetime", "t", default=""))
    sequence = arguments.integer("sequence", default=-1, least=-1, most=_MAX_SEQUENCE)
    has_patience = bool(arguments.text("patience", default=""))
    patience = min(arguments.duration("patience", default=0.0), PUBLISH_TIMEOUT) if has_patience else None
    done = await call.node.names.publish(
        arguments.args[0],
        key=arguments.text("key", "k", default="self"),
        lifetime=arguments.duration("lifetime", "t", default=0.0) if has_lifetime else None,
        ttl=arguments.duration("ttl", default=TTL),
        sequence=None if sequence < 0 else sequence,
        expect=_expected(arguments),
        allow_offline=arguments.flag("allow-offline"),
        patience=patience,
    )
    answer: dict[str, Any] = {"Name": done.name.to_base36(), "Value": _shown(done.path)}
    if patience is not None:
        takers = [str(peer_id) for peer_id in done.takers]
        answer |= {"Takers": takers, "Trouble": done.trouble, "Hidden": _is_hidden(call.node)}
        if (rival := done.rival) is not None:
            answer["Rival"] = {
                "Sequence": rival.sequence,
                "Value": _shown(rival.value.decode("utf-8", "surrogateescape")),
                "Outranks": rival.rank > done.record.rank,
            }
    return answer


async def resolve(call: Call) -> dict[str, Any] | None:
    """Tell where a name leads, by default our own; with `stream`, each better answer as it comes."""
    arguments = call.arguments
    name = arguments.try_arg(0) or call.node.peer_id.to_base36()
    newest = arguments.flag("newest")
    options: Mapping[str, Any] = {
        "newest": newest,
        "recursive": arguments.flag("recursive", "r", default=True),
        "nocache": arguments.flag("nocache", "n"),
        "quorum": arguments.integer("dht-record-count", "dhtrc", default=QUORUM, least=0, most=_MAX_QUORUM),
        # 0 is "no time-out": as long as the command may take.
        "timeout": arguments.duration("dht-timeout", "dhtt", default=TIMEOUT) or MAX_DEADLINE,
    }
    if not arguments.flag("stream", "s"):
        try:
            resolved = await call.node.names.resolve(name, **options)
        except (NameNotFoundError, UnavailableError) as exc:
            if not arguments.flag("may-be-unpublished"):
                raise
            state = {"Sequence": UNPUBLISHED[0], "Value": UNPUBLISHED[1]}
            warnings = [] if isinstance(exc, NameNotFoundError) else [_shown(str(exc))]
            return {"Path": "", "State": state, "Warnings": warnings}
        return _answer(resolved, with_state=newest)
    before: dict[str, Any] | None = None
    async with call.node.names.search(name, **options) as found:
        async for each in found:
            if (answer := _answer(each, with_state=newest)) != before:
                await call.emit(answer)
            before = answer
    return None


async def forget(call: Call) -> dict[str, Any]:
    """Forget what the network said of a name: the highest sequence number that was seen, and forks."""
    name, found = await call.node.names.forget(call.arguments.args[0])
    return {"Name": name.to_base36(), "Forgotten": found}


def _expected(arguments: Arguments) -> State | None:
    """Return the state that the name must be in. Raises BadRequestError: half of one, or one that can't be."""
    sequence = arguments.integer("expect-sequence", default=-2, least=-2, most=_MAX_SEQUENCE)
    value = arguments.text("expect-value", default="")
    if sequence == -2 and not value:
        return None
    if sequence < 0 or not value:
        if (sequence, value) == UNPUBLISHED:
            return UNPUBLISHED
        raise BadRequestError(
            "options 'expect-sequence' and 'expect-value' belong together",
            hint="take both from `State` of `name/resolve` with `newest`, or -1 and no value for a new name",
        )
    return sequence, value


def _answer(found: Resolved, *, with_state: bool = False) -> dict[str, Any]:
    answer: dict[str, Any] = {"Path": _shown(found.path)}
    if with_state:
        state = found.state
        answer["State"] = None if state is None else {"Sequence": state[0], "Value": _shown(state[1])}
    if found.warnings:
        answer["Warnings"] = [_shown("; ".join(filter(None, (str(each), each.hint)))) for each in found.warnings]
    return answer


def _is_hidden(node: NodeServices) -> bool:
    """Tell whether this node listens on loopback alone, though there may be peers on other machines."""
    near = [is_loopback(connection.remote_addr) for connection in node.swarm.connections()]
    return all(map(is_loopback, node.swarm.addresses())) and not (near and all(near))


def _shown(text: str) -> str:
    """Return `text` as JSON can have it: bytes that are not UTF-8 are replaced, as Go's encoder does."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


COMMANDS: Final = (
    Command("name/publish", publish, ("ipfs-path",), deadline=_DEADLINE),
    Command("name/resolve", resolve, most=1, deadline=MAX_DEADLINE),
    Command("name/forget", forget, ("name",)),
)

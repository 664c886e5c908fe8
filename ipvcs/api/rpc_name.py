"""`name …`: publish under a name of ours, resolve names, and forget what was seen of one.

Shapes: Kubo's core/commands/name, IpnsEntry `{"Name", "Value"}` and ResolvedPath `{"Path"}`. Beside `Path` stands
`Warnings`, a list of texts, when the answer may not be the newest; `name/forget` is ours. Of the options of `publish`,
`quieter` is the command line's matter, and `resolve` makes no difference: what is published need not be here.

Compare-and-swap is ours, too: `resolve` with `newest` asks the network for a few seconds, and its answer has the
`State` of the name's own record, `{"Sequence", "Value"}`, null for a domain. `publish` with these in `expect-sequence`
and `expect-value` fails if somebody else has published meanwhile. The state of a name without a record is -1 and "".
"""

from collections.abc import Mapping
from typing import Any, Final

from ipvcs.api.arguments import Arguments, BadRequestError
from ipvcs.api.command import MAX_DEADLINE, Call, Command
from ipvcs.node.naming.publisher import TTL
from ipvcs.node.naming.resolver import QUORUM, TIMEOUT, Resolved
from ipvcs.node.naming.succession import UNPUBLISHED, State

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
    done = await call.node.names.publish(
        arguments.args[0],
        key=arguments.text("key", "k", default="self"),
        lifetime=arguments.duration("lifetime", "t", default=0.0) if has_lifetime else None,
        ttl=arguments.duration("ttl", default=TTL),
        sequence=None if sequence < 0 else sequence,
        expect=_expected(arguments),
        allow_offline=arguments.flag("allow-offline"),
    )
    return {"Name": done.name.to_base36(), "Value": _shown(done.path)}


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
        return _answer(await call.node.names.resolve(name, **options), with_state=newest)
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


def _shown(text: str) -> str:
    """Return `text` as JSON can have it: bytes that are not UTF-8 are replaced, as Go's encoder does."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


COMMANDS: Final = (
    Command("name/publish", publish, ("ipfs-path",), deadline=_DEADLINE),
    Command("name/resolve", resolve, most=1, deadline=MAX_DEADLINE),
    Command("name/forget", forget, ("name",)),
)

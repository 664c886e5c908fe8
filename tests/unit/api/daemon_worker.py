"""A daemon whose node and API are stand-ins that hang or fail where they are told to; run as a process.

Arguments: the home, and what the parts do: `open-slowly`, `close-slowly`, `hang` (in a thread, so that nothing but the
end of the process helps), `nothing`.
"""

import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from ipvcs.api.daemon import DaemonOptions, ListeningNode, ServedApi, end_at_last, run_daemon
from ipvcs.api.idle import ClientCount
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import PrivateKey, generate_key
from ipvcs.storage.home import Home, open_home


class FakeNode:
    """Listens nowhere."""

    def __init__(self, listen: Sequence[str]) -> None:
        self._listen = listen

    def has_reason_to_stay(self) -> bool:
        return False

    def listen_addresses(self) -> list[Multiaddr]:
        return [Multiaddr.parse(text) for text in self._listen]


@asynccontextmanager
async def fake_node(how: str, _home: Home, _key: PrivateKey, listen: Sequence[str]) -> AsyncGenerator[ListeningNode]:
    if how == "open-slowly":
        print("opening", flush=True)
        await anyio.sleep(60)
    try:
        yield FakeNode(listen)
    finally:
        if how == "close-slowly":
            await anyio.sleep(60)
        elif how == "hang":
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(time.sleep, 60)


@asynccontextmanager
async def fake_api(
    _home: Home, _node: object, _options: DaemonOptions, _stop: Callable[[], None]
) -> AsyncGenerator[ServedApi]:
    async def app(*_args: object) -> None:
        pass

    yield ServedApi(["/unix/nowhere"], ClientCount(app))


def main(home: str, how: str) -> None:
    """Run it."""
    with open_home(Path(home)) as opened:
        say = partial(print, flush=True)
        node = partial(fake_node, how)
        run = partial(run_daemon, say=say, ending=end_at_last, open_node=node, serve_api=fake_api)
        anyio.run(run, opened, generate_key(), DaemonOptions())
        print("ended", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

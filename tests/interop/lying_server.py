"""A server of the DHT that gives whatever it was told to give for a key, and knows nobody."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio

from ipvcs.node.network.delimited import DelimitedReader, send_delimited
from ipvcs.node.network.interface import Stream
from ipvcs.node.routing.kad_message import MAX_MESSAGE, KadMessage, MessageType, Record, decode_message, encode_message
from ipvcs.node.routing.kad_profile import LAN
from tests.interop.dht_world import Server
from tests.interop.network_node import open_stack, own_addr


@asynccontextmanager
async def lying(lies: Mapping[bytes, bytes]) -> AsyncGenerator[Server]:
    """Run a server of the DHT that answers for the keys of `lies` with their values, whatever they are."""

    async def serve(stream: Stream) -> None:
        reader = DelimitedReader(stream, MAX_MESSAGE)
        with suppress(anyio.EndOfStream):
            while True:
                request = decode_message(await reader.receive())
                record = None
                if request.type is MessageType.GET_VALUE and request.key in lies:
                    record = Record(request.key, lies[request.key])
                answer = KadMessage(request.type, request.key, record)
                await send_delimited(stream, encode_message(answer))

    async with open_stack() as liar:
        liar.swarm.handle(LAN.protocol, serve)
        yield Server(liar.peer_id, own_addr(liar))

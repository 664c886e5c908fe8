"""A peer that does just what a test tells it, over a real socket: handshakes when asked for, then any bytes at all."""

import asyncio
import struct
from contextlib import suppress
from typing import Self

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.multistream import Initiator
from ipvcs.node.network.noise import NoiseSecurity
from ipvcs.node.network.security import SecureChannel

_PATIENCE = 5.0  # seconds for anything the other side should do at once


class RawPeer:
    """A dialler, by steps. Use `connect`, then as many of the handshakes as the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.key = generate_key()
        self.channel: SecureChannel
        self._wire = b""
        self._plain = b""

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """Open a socket and say nothing."""
        return cls(*await asyncio.open_connection(host, port))

    @property
    def peer_id(self) -> PeerId:
        """Who it says to be."""
        return self.key.peer_id

    async def negotiate(self, protocol: str) -> None:
        """Agree on `protocol` in the clear."""
        initiator = Initiator([protocol])
        await self.send_wire(initiator.data_to_send())
        while initiator.result is None:
            initiator.receive_data(await self._read())
        self._wire = initiator.rest

    async def secure(self, muxer: str | None = "/yamux/1.0.0") -> Self:
        """Shake hands by Noise; both sides speak `muxer` from then on, or have still to agree on one."""
        await self.negotiate("/noise")
        handshake = NoiseSecurity(self.key, [muxer] if muxer else []).start(initiator=True, expected=None)
        if self._wire:
            handshake.receive_data(self._wire)
        await self.send_wire(handshake.data_to_send())
        while handshake.result is None:
            handshake.receive_data(await self._read())
            await self.send_wire(handshake.data_to_send())
        assert handshake.result.muxer == muxer
        self.channel = handshake.result.channel
        self._wire = handshake.rest
        return self

    async def send_wire(self, data: bytes) -> None:
        """Send `data` as it is."""
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send `data`, encrypted."""
        await self.send_wire(bytes(self.channel.seal([data])))

    async def receive(self, size: int) -> bytes:
        """Return the next `size` bytes, decrypted."""
        while len(self._plain) < size:
            self._wire += await self._read()
            pieces, used = self.channel.open(memoryview(self._wire))
            self._wire = self._wire[used:]
            self._plain += b"".join(pieces)
        data, self._plain = self._plain[:size], self._plain[size:]
        return data

    async def receive_frame(self) -> tuple[int, int, int, int, bytes]:
        """Return the next yamux frame: type, flags, stream, length, payload."""
        _version, kind, flags, stream, length = struct.unpack("!BBHII", await self.receive(12))
        return kind, flags, stream, length, await self.receive(length) if kind == 0 else b""

    async def is_cut_off(self, within: float = _PATIENCE) -> bool:
        """Tell whether the other side ends the connection `within` seconds, whatever it says before."""
        try:
            async with asyncio.timeout(within):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def close(self) -> None:
        """Cut the connection."""
        self.writer.transport.abort()

    async def aclose(self) -> None:
        """Cut the connection and wait for it to be gone."""
        self.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def _read(self) -> bytes:
        async with asyncio.timeout(_PATIENCE):
            data = await self.reader.read(65536)
        if not data:
            raise EOFError("the other side closed the connection")
        return data

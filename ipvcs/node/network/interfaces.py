"""The IP addresses of this machine's interfaces, asked of the kernel.

The standard library can list interfaces but not their addresses, and looking up our own host name finds one of them at
best. rtnetlink is what `ip addr` uses: a dump of all addresses, both families, in one question, without privileges.

Spec: rtnetlink(7), netlink(7); numbers from linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
"""

import logging
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ipvcs.node.network.addresses import IpAddress, Scope, scope_of_ip

_log = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port id; in the machine's own byte order
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_NLM_F_REQUEST: Final = 0x001
_NLM_F_DUMP: Final = 0x300
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_UNUSABLE: Final = 0x08 | 0x20 | 0x40
"""Address found to be a duplicate, deprecated, or not yet known to be unique."""
_MAX_REPLY: Final = 65536
"""Bytes of one datagram; the kernel fills at most 32 KiB."""
_MAX_DATAGRAMS: Final = 256
"""Of one dump: some 100,000 addresses. The kernel ends it far earlier."""
_TIMEOUT: Final = 1.0
"""Seconds. The kernel answers within the call; this only bounds what a sandbox may do in its place."""


def interface_ips() -> tuple[IpAddress, ...]:
    """Return the addresses of all interfaces, loopback included, IPv4 first.

    None, and a warning in the log, if the kernel does not tell. IPv6 link-local addresses are left out: of no use to
    others without the zone, which is a name of ours. So are addresses that are not usable yet or any more.
    """
    try:
        found = set(parse_addresses(_dump()))
    except OSError as exc:
        _log.warning("cannot list the addresses of this machine's interfaces: %s", exc)
        return ()
    return tuple(sorted(found, key=lambda ip: (ip.version, ip.packed)))


def parse_addresses(dump: bytes) -> Iterator[IpAddress]:
    """Yield the usable addresses in `dump`, RTM_NEWADDR messages one after the other; anything else is skipped."""
    for kind, body in _iter_messages(dump):
        if kind != _RTM_NEWADDR or len(body) < _ADDRESS.size:
            continue
        family, _prefix, flags, _scope, _index = _ADDRESS.unpack_from(body)
        attributes = dict(_iter_attributes(body[_ADDRESS.size :]))
        if len(wide := attributes.get(_IFA_FLAGS, b"")) == 4:
            flags = int.from_bytes(wide, sys.byteorder)
        # On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL ours; IPv6 mostly has IFA_ADDRESS alone.
        packed = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
        ip: IpAddress
        if family == socket.AF_INET and len(packed) == 4:
            ip = IPv4Address(packed)
        elif family == socket.AF_INET6 and len(packed) == 16:
            ip = IPv6Address(packed)
        else:
            continue
        if not flags & _UNUSABLE and not (ip.version == 6 and scope_of_ip(ip) is Scope.LINK_LOCAL):
            yield ip


def _dump() -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT)
        sock.bind((0, 0))
        size = _HEADER.size + _ADDRESS.size
        request = _HEADER.pack(size, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0) + _ADDRESS.pack(0, 0, 0, 0, 0)
        sock.sendto(request, (0, 0))
        out = bytearray()
        for _ in range(_MAX_DATAGRAMS):
            data, sender = sock.recvfrom(_MAX_REPLY)
            if sender[0] != 0:  # another process may write to the socket, the kernel is port 0
                continue
            out += data
            for kind, body in _iter_messages(data):
                if kind == _NLMSG_ERROR:
                    raise OSError(-int.from_bytes(body[:4], sys.byteorder, signed=True), "netlink refused the question")
                if kind == _NLMSG_DONE:
                    return bytes(out)
        raise OSError("netlink's answer does not end")


def _iter_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(data):
        size, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, position)
        if size < _HEADER.size:
            return
        yield kind, data[position + _HEADER.size : position + size]
        position += _aligned(size)


def _iter_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, position)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[position + _ATTRIBUTE.size : position + size]
        position += _aligned(size)


def _aligned(size: int) -> int:
    return size + 3 & ~3

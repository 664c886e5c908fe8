"""The addresses of our interfaces, as the kernel tells them."""

import socket
import struct
import sys
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.network import interfaces
from ipvcs.node.network.addresses import IpAddress
from ipvcs.node.network.interfaces import interface_ips, parse_addresses

KERNEL_DUMP = bytes.fromhex(
    "4c0000001400020001000000ef710000020880fe01000000080001007f000001080002007f000001070003006c6f0000080008008000000014"
    "000600ffffffffffffffff0d0000000d000000580000001400020001000000ef710000021880000400000008000100c000020208000200c000"
    "020208000400c00002ff090003006574683000000000080008008000000014000600ffffffffffffffff0d0000000d00000050000000140002"
    "0001000000ef7100000a8080fe01000000140001000000000000000000000000000000000114000600ffffffffffffffff0d0000000d000000"
    "080008008000000005000b0001000000480000001400020001000000ef7100000a4082000400000014000100fd000000000000000000000000"
    "00000214000600ffffffffffffffff0d0000000d0000000800080082000000500000001400020001000000ef7100000a4080fd040000001400"
    "0100fe8000000000000000fc00fffe00000114000600ffffffffffffffff0d0000000d000000080008008000000005000b0003000000140000"
    "000300020001000000ef71000000000000"
)
"""What Linux 6.18 on x86-64 answered to RTM_GETADDR: `lo` and one Ethernet interface, both families."""

needs_little_endian = pytest.mark.skipif(sys.byteorder == "big", reason="the recorded dump is of another byte order")


@needs_little_endian
def test_a_recorded_dump_reads_as_ip_addr_showed_it_without_the_link_local_address() -> None:
    assert list(map(str, parse_addresses(KERNEL_DUMP))) == ["127.0.0.1", "192.0.2.2", "::1", "fd00::2"]


def message(family: int, *attributes: tuple[int, bytes], flags: int = 0, kind: int = 20) -> bytes:
    body = struct.pack("=BBBBI", family, 24, flags, 0, 2)
    for number, value in attributes:
        body += struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def ip(text: str) -> bytes:
    return ip_address(text).packed


def parsed(*messages: bytes) -> list[str]:
    return [str(found) for found in parse_addresses(b"".join(messages))]


def test_on_a_point_to_point_link_our_own_end_counts() -> None:
    assert parsed(message(socket.AF_INET, (1, ip("10.0.0.2")), (2, ip("10.0.0.1")))) == ["10.0.0.1"]


@pytest.mark.parametrize("flag", [0x08, 0x20, 0x40])
def test_addresses_that_are_duplicate_deprecated_or_tentative_are_left_out(flag: int) -> None:
    address = (1, ip("2606:4700::1"))
    assert parsed(message(socket.AF_INET6, address)) == ["2606:4700::1"]
    assert parsed(message(socket.AF_INET6, address, flags=flag)) == []
    assert parsed(message(socket.AF_INET6, address, (8, struct.pack("=I", flag)))) == []


def test_other_messages_families_and_lengths_are_skipped() -> None:
    good = message(socket.AF_INET, (2, ip("10.0.0.1")))
    assert parsed(
        message(socket.AF_INET, (2, ip("10.0.0.9")), kind=16),
        message(socket.AF_PACKET, (2, ip("10.0.0.9"))),
        message(socket.AF_INET, (2, b"\x0a")),
        message(socket.AF_INET6, (1, ip("10.0.0.9"))),
        message(socket.AF_INET),
        good,
    ) == ["10.0.0.1"]


@given(noise=st.binary(max_size=80), cut=st.integers(0, len(KERNEL_DUMP)))
def test_garbage_ends_the_parse_without_an_error(noise: bytes, cut: int) -> None:
    found: list[IpAddress] = list(parse_addresses(KERNEL_DUMP[:cut] + noise))
    assert len(found) <= 6 + len(noise) // 16


@pytest.mark.network
def test_the_kernel_knows_our_loopback_address() -> None:
    assert ip_address("127.0.0.1") in interface_ips()


def test_a_kernel_that_refuses_means_no_addresses_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> bytes:
        raise PermissionError("not permitted")

    monkeypatch.setattr(interfaces, "_dump", refuse)
    assert interface_ips() == ()
    assert "not permitted" in caplog.text

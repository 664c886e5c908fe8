"""What a pusher is told about failures: about the push, and nothing about the owner's machine."""

import errno
from pathlib import Path

import pytest

from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.git import GitError
from ipvcs.git_bridge.offer_receiver import BlocksNotSentError, OtherProfileError, describe
from ipvcs.git_bridge.place import PlaceTakenError
from ipvcs.git_bridge.push_replies import FailureCode
from ipvcs.git_bridge.quarantine import PackMemoryError, RefusedPackError
from ipvcs.git_bridge.received_push import InflatedPackError, RightsLostError, UntrueOfferError
from ipvcs.storage.disk import DiskError, DiskFullError, PermissionDeniedError

HOME = Path("/home/o w/ipvcs")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UntrueOfferError("x"), FailureCode.UNTRUE),
        (RefusedPackError("fatal: pack has bad object"), FailureCode.UNTRUE),
        (OtherProfileError("cdc-1", "unixfs-v1-2025"), FailureCode.BAD_REQUEST),
        (PlaceTakenError((b"x",), "no"), FailureCode.BAD_REQUEST),
        (RightsLostError(), FailureCode.DENIED),
        (InflatedPackError(1 << 40), FailureCode.LIMIT),
        (PackMemoryError(), FailureCode.LIMIT),
        (MemoryError(), FailureCode.LIMIT),
        (BlocksNotSentError("nobody sent block 'b'"), FailureCode.UNAVAILABLE),
        (DiskFullError(HOME / "blocks"), FailureCode.FAILED),
        (OSError(errno.ENOSPC, "No space left on device", str(HOME)), FailureCode.FAILED),
        (PermissionDeniedError(HOME), FailureCode.FAILED),
        (DiskError("cannot read", HOME), FailureCode.FAILED),
        (GitError("rev-list", 128, f"fatal: bad object in {HOME}"), FailureCode.FAILED),
        (IpvcsError(f"something about '{HOME}'"), FailureCode.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_has_a_code_and_a_way_out_and_no_path(error: BaseException, code: FailureCode) -> None:
    failure = describe(error)
    assert failure.code is code
    assert failure.message
    assert failure.hint
    assert "/home" not in failure.message + failure.hint
    assert "o w" not in failure.message + failure.hint


def test_a_fault_that_git_finds_is_named_with_the_owners_setting() -> None:
    words = f"error: object {'1' * 40}: hasDotgit: contains '.git'\nfatal: fsck error in packed object"
    assert "receive.fsck.hasDotgit ignore" in describe(RefusedPackError(words)).hint


def test_a_full_disk_is_named() -> None:
    assert describe(DiskFullError(HOME)).message == "the owner's disk is full"

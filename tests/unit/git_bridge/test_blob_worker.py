"""Errors on their way from the second process: they arrive as what they were."""

import pickle
from pathlib import Path

import pytest

from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.blob_worker import BlobWorkerError, _Failure
from ipvcs.git_bridge.git import GitError
from ipvcs.git_bridge.object_feed import GitObjectMissingError
from ipvcs.objects.git.object_id import ObjectId, ObjectIdMismatchError
from ipvcs.storage.disk import DiskFullError, PermissionDeniedError
from ipvcs.storage.home import HomeVersionError


@pytest.mark.parametrize(
    "error",
    [
        GitObjectMissingError("1" * 40),
        ObjectIdMismatchError(ObjectId(bytes(20)), ObjectId(b"1" * 20)),
        GitError("cat-file", 128, "fatal: not today"),
        DiskFullError(Path("/home")),
        PermissionDeniedError(Path("/home")),
        HomeVersionError(Path("/home"), "7"),
    ],
)
def test_an_error_arrives_as_what_it_was(error: IpvcsError) -> None:
    sent = pickle.dumps(_Failure(type(error), error.args, error.__dict__))
    with pytest.raises(type(error)) as caught:
        pickle.loads(sent).throw()
    assert (str(caught.value), caught.value.__dict__) == (str(error), error.__dict__)
    assert caught.value.exit_code == error.exit_code


def test_how_it_was_ended_is_said() -> None:
    assert "was ended by signal 9" in str(BlobWorkerError(-9))
    assert "was ended with status 1" in str(BlobWorkerError(1))

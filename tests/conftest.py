"""What holds for every test: a sealed environment, no network but loopback, reproducible examples.

Before the first test, this process moves into a private network namespace (`tests.interop.netns`); pytest-xdist's
workers are its children and are inside too. If the kernel refuses, the tests that need one fail and say what to allow.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest

from tests.interop import netns
from tests.interop.cache import cache_directory

_NEEDS_ISOLATION = ("interop", "network")
_SEALED_PREFIXES = ("GIT_", "IPVCS_", "XDG_", "IPFS_")
_SEALED = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}
_refusal = pytest.StashKey[str]()
_home = pytest.StashKey[Path]()

# `default` gives the same examples in every run, so that a failure is the change's; `long` looks for new ones.
hypothesis.settings.register_profile("default", derandomize=True, max_examples=50, deadline=None, print_blob=True)
hypothesis.settings.register_profile("long", derandomize=False, max_examples=500, deadline=None, print_blob=True)
_profile = os.environ.get("HYPOTHESIS_PROFILE", "default")
hypothesis.settings.load_profile(_profile)


def pytest_configure(config: pytest.Config) -> None:
    """Seal the environment and leave the network."""
    peers = str(cache_directory())  # by the developer's own HOME, before it is taken away
    for name in [name for name in os.environ if name.startswith(_SEALED_PREFIXES)]:
        del os.environ[name]
    config.stash[_home] = Path(tempfile.mkdtemp(prefix="ipvcs-home-"))
    os.environ.update(_SEALED, HOME=str(config.stash[_home]), IPVCS_TEST_CACHE=peers)
    # Who was started in the background ignores these, and so would every process that a test starts and signals.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        netns.enter()
    except netns.NotIsolatedError as exc:
        config.stash[_refusal] = str(exc)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the session's HOME away."""
    if (home := config.stash.get(_home, None)) is not None:
        shutil.rmtree(home, ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that would open sockets where more than loopback can be reached. It is never skipped."""
    if any(item.get_closest_marker(name) for name in _NEEDS_ISOLATION):
        if refusal := item.config.stash.get(_refusal, None):
            pytest.fail(refusal, pytrace=False)
        try:
            netns.check_isolated()
        except netns.NotIsolatedError as exc:
            pytest.fail(str(exc), pytrace=False)


@pytest.fixture(scope="session")
def full_counts() -> bool:
    """Whether this is `make test-long`: `kills = 200 if full_counts else 10`."""
    return _profile == "long"

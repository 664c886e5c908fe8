"""Names and turns of mirrors; what they hold is tested end to end."""

import os
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.mirror import mirror_name, open_mirror

components = st.binary(min_size=1, max_size=40).filter(lambda each: b"/" not in each and b"\0" not in each)
paths = st.lists(components, max_size=6).map(tuple)


@given(paths, paths)
def test_each_place_has_a_mirror_of_its_own_name(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> None:
    names = mirror_name(one), mirror_name(other)
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert len(name) <= 200
        assert "/" not in name


def test_one_at_a_time_works_on_a_mirror(tmp_path: Path) -> None:
    waited = threading.Event()
    order: list[str] = []

    def second() -> None:
        with open_mirror(tmp_path, (b"x",), os.environ, waited.set):
            order.append("second")

    with open_mirror(tmp_path, (b"x",), os.environ, lambda: None):
        with open_mirror(tmp_path, (b"y",), os.environ, lambda: None):
            pass  # another place does not wait
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]

"""Names that can't be together."""

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.ref_directories import RefDirectories
from ipvcs.git_bridge.refname import RefName

names = st.lists(st.sampled_from([b"a", b"b", b"a-b"]), min_size=1, max_size=3).map(
    lambda parts: RefName(b"refs/heads/" + b"/".join(parts))
)


@given(st.lists(st.tuples(st.booleans(), names), max_size=12), names)
def test_an_obstacle_is_a_name_that_is_a_directory_of_the_other(
    changes: list[tuple[bool, RefName]], new: RefName
) -> None:
    there: set[bytes] = set()
    directories = RefDirectories([])
    for is_added, name in changes:
        (there.add if is_added else there.discard)(name)
        (directories.add if is_added else directories.remove)(name)
    obstacles = {name for name in there if name.startswith(new + b"/") or new.startswith(name + b"/")}
    found = directories.obstacle(new)
    assert found in obstacles if obstacles else found is None


def test_a_name_is_no_obstacle_to_itself() -> None:
    name = RefName(b"refs/heads/main")
    assert RefDirectories([name, name]).obstacle(name) is None

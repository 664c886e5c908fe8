"""Which packs a fetch needs, against histories that say what each pack holds."""

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.git_bridge.manifest import PackEntry
from ipvcs.git_bridge.pack_choice import needed_packs
from ipvcs.objects.git.object_id import ObjectId


def oid(name: str) -> ObjectId:
    return ObjectId(name.encode().ljust(20, b"\0"))


def pack(name: str, tips: str, bases: str = "") -> PackEntry:
    return PackEntry(name, 1, 1, tuple(map(oid, tips.split())), tuple(map(oid, bases.split())))


PACKS = [pack("0", "a"), pack("1", "b", "a"), pack("2", "c", "a"), pack("3", "d", "c"), pack("4", "e f", "b d")]


def names(wanted: str, here: str = "", packs: list[PackEntry] = PACKS) -> str:
    present = set(map(oid, here.split()))
    return "".join(each.name for each in needed_packs(packs, list(map(oid, wanted.split())), present.__contains__))


def test_what_a_tip_builds_on_is_needed_and_nothing_else() -> None:
    assert names("a") == "0"
    assert names("c") == "02"
    assert names("b d") == "0123"
    assert names("e") == "01234"


def test_what_is_here_is_left_out() -> None:
    assert names("d", "a c") == "3"
    assert names("e", "a b c d") == "4"
    assert names("e", "a b c d e f") == ""
    assert names("e", "b") == "0234"


def test_what_is_no_tip_may_be_anywhere() -> None:
    assert names("x") == "01234"
    assert names("x", "a b") == "234"


def test_bases_that_are_not_named_may_be_anywhere_before() -> None:
    many = [*PACKS[:4], pack("4", "g")]
    assert names("g", packs=many) == "01234"
    assert names("g", "a b", packs=many) == "234"


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[PackEntry], dict[ObjectId, set[ObjectId]], list[set[ObjectId]]]:
    """Return packs, what each commit reaches, and what each pack holds."""
    reach: dict[ObjectId, set[ObjectId]] = {}
    packs: list[PackEntry] = []
    holds: list[set[ObjectId]] = []
    for number in range(draw(st.integers(1, 6))):
        before = sorted(reach)
        tips = []
        for new in range(draw(st.integers(1, 3))):
            parents = draw(st.lists(st.sampled_from(sorted(reach)), max_size=2)) if reach else []
            commit = oid(f"{number}.{new}")
            reach[commit] = {commit}.union(*(reach[parent] for parent in parents))
            tips.append(commit)
        old = draw(st.lists(st.sampled_from(before), max_size=2)) if before else []
        bases = draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
        held = set[ObjectId]().union(*(reach[tip] for tip in [*tips, *old])) - set[ObjectId]().union(
            *(reach[base] for base in bases)
        )
        packs.append(PackEntry(str(number), 1, 1, tuple(sorted({*tips, *old})), tuple(sorted(bases))))
        holds.append(held)
    return packs, reach, holds


@given(histories(), st.data())
def test_nothing_that_is_wanted_is_ever_missing(
    history: tuple[list[PackEntry], dict[ObjectId, set[ObjectId]], list[set[ObjectId]]], data: st.DataObject
) -> None:
    packs, reach, holds = history
    commits = st.sampled_from(sorted(reach))
    wanted = data.draw(st.lists(commits, min_size=1, max_size=3))
    here = set[ObjectId]().union(*(reach[each] for each in data.draw(st.lists(commits, max_size=3))))
    needed = {each.name for each in needed_packs(packs, wanted, here.__contains__)}
    got = here.union(*(holds[index] for index, each in enumerate(packs) if each.name in needed))
    assert set[ObjectId]().union(*(reach[each] for each in wanted)) <= got

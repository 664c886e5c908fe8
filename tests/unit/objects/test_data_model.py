from ipvcs.multiformats.cid import Cid
from ipvcs.objects.data_model import MAX_DEPTH, Value, iter_links, shown

A = Cid.parse("bafkqaaa")
B = Cid.parse("bafkreifw7plhl6mofk6sfvhnfh64qmkq73oeqwl6sloru6rehaoujituke")


def test_links_come_in_the_order_of_lists_and_maps_and_as_often_as_they_are_there() -> None:
    value: Value = {"z": [A, {"x": B}, "text"], "a": A, "e": [], "n": None}
    assert list(iter_links(value)) == [A, B, A]
    assert list(iter_links(B)) == [B]
    assert list(iter_links("bafkqaaa")) == []


def test_links_are_found_below_any_depth() -> None:
    value: Value = A
    for _ in range(10 * MAX_DEPTH):
        value = [value]
    assert list(iter_links(value)) == [A]


def test_kinds_are_named_as_the_data_model_names_them() -> None:
    items: list[object] = [None, True, 1, 1.5, "", b"", [], {}, A]
    assert [shown(item) for item in items] == [
        "null", "boolean", "integer", "float", "string", "bytes", "list", "map", "link",
    ]  # fmt: skip
    assert shown(object()) == "Python object of type object"

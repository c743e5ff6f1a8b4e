import sys

import pytest

from host.labels import Labels
from lattice import errors, limits


def test_a_host_says_what_machine_it_is_beside_what_was_configured() -> None:
    labels = Labels({"zone": "a"}).all()

    assert labels.keys() == {"hostcore.arch", "hostcore.os", "hostcore.osfamily", "zone"}
    assert labels["hostcore.os"] == sys.platform


def test_labels_are_set_changed_and_deleted() -> None:
    labels = Labels({})
    labels.put("zone", "a")
    labels.put("zone", "b")
    labels.put("empty", "")

    assert (labels.all()["zone"], labels.all()["empty"]) == ("b", "")
    assert labels.delete("zone")
    assert not labels.delete("zone")
    assert "zone" not in labels.all()


@pytest.mark.parametrize("key", ["hostcore.os", "HostCore.arch", "hostcore.mine"])
def test_a_hosts_own_labels_are_neither_set_nor_deleted(key: str) -> None:
    labels = Labels({})
    before = labels.all()

    with pytest.raises(errors.InvalidRequest, match=r"hostcore\.\* labels cannot be set"):
        labels.put(key, "plan9")
    with pytest.raises(errors.InvalidRequest, match=r"hostcore\.\* labels cannot be deleted"):
        labels.delete(key)
    assert labels.all() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "x"),
        ("x" * (limits.LABEL_CHARS_MAX + 1), ""),
        ("x", "y" * (limits.LABEL_CHARS_MAX + 1)),
    ],
    ids=["no key", "a long key", "a long value"],
)
def test_labels_that_are_none_are_refused(key: str, value: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        Labels({}).put(key, value)


def test_a_host_has_only_so_many_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LABELS_MAX", 5)
    labels = Labels({})
    labels.put("a", "1")
    labels.put("b", "1")
    with pytest.raises(errors.InvalidRequest, match="as many as it may"):
        labels.put("c", "1")
    labels.put("b", "2")


@pytest.mark.parametrize(
    ("constraints", "satisfied"),
    [
        ({}, True),
        ({"zone": "a"}, True),
        ({"zone": "a", "hostcore.osfamily": "unix"}, True),
        ({"zone": "b"}, False),
        ({"zone": "a", "tier": "x"}, False),
    ],
)
def test_every_constraint_must_be_a_label(constraints: dict[str, str], satisfied: bool) -> None:
    assert Labels({"zone": "a"}).satisfy(constraints) is satisfied

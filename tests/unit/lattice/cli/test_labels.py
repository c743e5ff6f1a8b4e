"""Labels as they are typed."""

import pytest

from lattice import errors
from lattice.cli import labels


def test_labels_are_separated_by_commas_or_given_one_by_one() -> None:
    assert labels.parsed(["a=1,b=2=3", "c="], delete=False) == {"a": "1", "b": "2=3", "c": ""}


def test_to_delete_a_label_its_key_is_enough() -> None:
    assert labels.parsed(["a,b=2"], delete=True) == {"a": "", "b": "2"}


@pytest.mark.parametrize("texts", [["a"], ["=1"], ["a=1,a=2"], [","]], ids=str)
def test_what_is_no_label_is_refused(texts: list[str]) -> None:
    with pytest.raises(errors.InvalidRequest):
        labels.parsed(texts, delete=False)

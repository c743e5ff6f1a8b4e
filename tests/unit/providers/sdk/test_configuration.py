"""What operators write for providers: read in one way, refused by name."""

import pytest
from structlog.testing import capture_logs

from lattice import errors
from providers.sdk import configuration


def test_names_count_in_any_case_and_values_without_blanks_around_them() -> None:
    assert configuration.folded({"URL": " a ", "url": "a"}) == {"url": "a"}
    with pytest.raises(errors.InvalidRequest, match="given twice"):
        configuration.folded({"URL": "a", "url": "b"})


def test_a_choice_is_one_of_its_words_and_the_first_by_default() -> None:
    words = ("core", "stored", "both")
    assert configuration.choice({}, "delivery", words) == "core"
    assert configuration.choice({"delivery": "Both"}, "delivery", words) == "both"
    with pytest.raises(
        errors.InvalidRequest, match="delivery is 'maybe'; want core, stored or both"
    ):
        configuration.choice({"delivery": "maybe"}, "delivery", words)


def test_a_time_is_written_in_milliseconds_and_has_bounds() -> None:
    assert configuration.seconds({}, "wait_ms", 1_500, 2_000) == 1.5
    for text in ("0", "2001", "1.5", "", "٣"):
        with pytest.raises(errors.InvalidRequest, match="want a whole number from 1 to 2000"):
            configuration.seconds({"wait_ms": text}, "wait_ms", 1_500, 2_000)


def test_keys_that_mean_nothing_are_told_with_whose_they_are() -> None:
    with capture_logs() as logs:
        configuration.tell_ignored({"URL": "a", "ulr": "b"}, {"url"}, source="counter")
        configuration.tell_ignored({"URL": "a"}, {"url"}, source="counter")
    assert [(entry["keys"], entry["source"]) for entry in logs] == [(["ulr"], "counter")]

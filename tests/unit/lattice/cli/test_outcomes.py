"""Events that tell how a request came out."""

from collections.abc import Iterator

import pytest

from lattice import errors
from lattice.cli import auctions, outcomes
from lattice.control.client import Event, EventStream
from lattice.wire.control import Host


def test_an_event_concerns_us_when_all_of_the_fields_agree() -> None:
    event = Event("component_scaled", "N1", {"component_id": "a", "host_id": "N1", "x": 1})

    assert outcomes.matches(event, {"component_id": "a", "host_id": "N1"})
    assert not outcomes.matches(event, {"component_id": "a", "host_id": "N2"})
    assert not outcomes.matches(event, {"provider_id": "a"})


def test_a_failure_event_becomes_the_error_of_its_code() -> None:
    data = {"error": "no such artefact", "code": "not_found"}

    error = outcomes.failure(Event("component_scale_failed", "N1", data))

    assert isinstance(error, errors.NotFound)
    assert (error.text, error.at) == ("no such artefact", "N1")


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("component_scale_failed", errors.ActorError),
        ("provider_start_failed", errors.ProviderError),
    ],
)
@pytest.mark.parametrize("code", [None, "of-tomorrow", 7])
def test_a_failure_event_without_a_known_code_is_still_a_failure(
    name: str, cls: type[errors.LatticeError], code: object
) -> None:
    error = outcomes.failure(Event(name, "N1", {"error": "broken", "code": code}))

    assert type(error) is cls
    assert error.text == "broken"


def host(name: str, **labels: str) -> Host:
    return Host(id=name, friendly_name=name, labels=labels, lattice="default", uptime_seconds=1)


def test_no_bid_in_an_empty_lattice_says_that_there_are_no_hosts() -> None:
    error = auctions.no_bid([], "counter", {}, "default")

    assert isinstance(error, errors.Unavailable)
    assert "no host answers" in error.text


def test_no_bid_for_want_of_labels_names_the_constraints() -> None:
    error = auctions.no_bid([host("alpha", zone="b")], "counter", {"zone": "a"}, "default")

    assert isinstance(error, errors.NotFound)
    assert "zone=a" in error.text
    assert error.remedy


def test_no_bid_in_spite_of_fitting_labels_names_the_hosts() -> None:
    everyone = [host("alpha", zone="a"), host("beta", zone="b")]

    error = auctions.no_bid(everyone, "counter", {"zone": "a"}, "default")

    assert isinstance(error, errors.NotFound)
    assert "alpha" in error.text
    assert "beta" not in error.text


async def wait(looks: list[bool | errors.LatticeError], *, timeout_ms: int = 60_000) -> None:
    """Wait for news that never come; each look at the host finds what is next."""
    found: Iterator[bool | errors.LatticeError] = iter(looks)

    async def look() -> bool:
        match next(found):
            case bool(answer):
                return answer
            case errors.LatticeError() as error:
                raise error

    await outcomes.wait(
        EventStream(),
        done="component_scaled",
        failed="component_scale_failed",
        concerns={},
        timeout_ms=timeout_ms,
        look=look,
        what="component a",
    )


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "LOOK_S", 0.001)


@pytest.mark.usefixtures("looks_at_once")
async def test_a_host_that_is_busy_is_waited_for_until_it_has_done_it() -> None:
    await wait([False, errors.DeadlineExceeded("no answer in time"), False, True])


@pytest.mark.usefixtures("looks_at_once")
async def test_a_host_that_is_gone_is_not_waited_for() -> None:
    with pytest.raises(errors.NotFound, match="no host"):
        await wait([False, errors.NotFound("no host N1 answers")])


async def test_a_host_that_does_not_even_answer_when_the_time_is_up_brings_no_news() -> None:
    with pytest.raises(outcomes.NoNews, match="no news of component a within 1 ms"):
        await wait([errors.DeadlineExceeded("no answer in time")], timeout_ms=1)

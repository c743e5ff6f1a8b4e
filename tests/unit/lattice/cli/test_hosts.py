"""Which host a text means."""

import pytest

from lattice import errors
from lattice.cli import hosts
from lattice.wire.control import Host


def host(name: str, *, host_id: str | None = None) -> Host:
    return Host(
        id=host_id or f"N-{name}",
        friendly_name=name,
        labels={},
        lattice="default",
        uptime_seconds=1,
    )


@pytest.mark.parametrize("text", ["N-alpha", "alpha", "ALPH", "lph"])
def test_a_host_is_meant_by_its_id_its_name_or_a_part_of_it(text: str) -> None:
    everyone = [host("alpha"), host("beta")]

    assert hosts.choose(everyone, text, "default").friendly_name == "alpha"


def test_a_whole_name_wins_over_one_that_contains_it() -> None:
    everyone = [host("host-10"), host("host-1")]

    assert hosts.choose(everyone, "host-1", "default").friendly_name == "host-1"


def test_an_ambiguous_name_lists_the_hosts_that_it_may_mean() -> None:
    everyone = [host("host-1"), host("host-2"), host("beta")]

    with pytest.raises(errors.InvalidRequest, match=r"host-1 \(N-host-1\), host-2 \(N-host-2\)"):
        hosts.choose(everyone, "host", "default")


def test_two_hosts_of_one_name_are_ambiguous() -> None:
    everyone = [host("alpha", host_id="N1"), host("alpha", host_id="N2")]

    with pytest.raises(errors.InvalidRequest, match=r"N1.*N2"):
        hosts.choose(everyone, "alpha", "default")


def test_a_name_that_no_host_has_says_where_to_look() -> None:
    with pytest.raises(errors.NotFound, match="no host named 'gamma'") as caught:
        hosts.choose([host("alpha")], "gamma", "default")

    assert "lattice get hosts" in caught.value.remedy


def test_a_reference_is_shown_with_a_short_digest() -> None:
    reference = "lattice://counter@sha256:" + "ab" * 32

    assert hosts.with_short_digests(reference) == "lattice://counter@sha256:abababababab"
    assert hosts.with_short_digests("ghcr.io/a/b:1.0") == "ghcr.io/a/b:1.0"
    assert hosts.with_short_digests(None) == ""

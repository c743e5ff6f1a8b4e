"""References to providers."""

import pytest

from lattice import installed


def test_a_bare_name_means_a_provider_inside_the_host() -> None:
    assert installed.reference("keyvalue") == "lattice+builtin://keyvalue"


@pytest.mark.parametrize("reference", ["lattice+process://keyvalue", "ghcr.io/a/kv:1"])
def test_any_other_reference_to_a_provider_is_left_as_it_is(reference: str) -> None:
    assert installed.reference(reference) == reference

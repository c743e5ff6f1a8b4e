import pytest

from lattice.bus.client import first_form

FIRST = b"$JS.ACK.KV_x.c1.1.20.3.1700000000.0"


@pytest.mark.parametrize(
    "reply",
    [
        FIRST,
        b"$JS.ACK.hub.ACCOUNT.KV_x.c1.1.20.3.1700000000.0",
        b"$JS.ACK._.ACCOUNT.KV_x.c1.1.20.3.1700000000.0.more",
    ],
)
def test_both_forms_of_an_acknowledgement_are_read_alike(reply: bytes) -> None:
    assert first_form(reply) == FIRST

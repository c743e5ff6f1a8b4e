"""How requests of ``wasmcloud:httpclient`` are read; the contract suite sends them."""

from lattice.wire import codec
from providers.http_client import contract


def test_a_request_may_be_a_list_of_its_fields() -> None:
    fields = {
        "method": "PUT",
        "url": "http://a.example/x?y",
        "headers": {"x-a": ["1", "2"]},
        "body": b"\x00",
    }
    listed = codec.pack(list(fields.values()))
    assert contract.decode_request(listed) == contract.decode_request(codec.pack(fields))

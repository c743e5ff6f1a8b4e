import pytest

from lattice import artefacts, errors

DIGEST = "0123456789abcdef" * 4


def test_a_reference_is_read_as_it_is_written() -> None:
    stored = artefacts.StoredArtefact("echo-1.0_x.wasm", DIGEST)

    assert artefacts.parse(str(stored)) == stored


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "echo",
        f"lattice://@sha256:{DIGEST}",
        f"lattice://a/b@sha256:{DIGEST}",
        f"lattice://a@sha256:{DIGEST.upper()}",
        f"lattice://a@sha256:{DIGEST[1:]}",
        f"lattice://a@md5:{DIGEST}",
        f"lattice://a@sha256:{DIGEST}\n",
        f"lattice://{'a' * 129}@sha256:{DIGEST}",
        "lattice://" + "a" * 10**6,
    ],
    ids=lambda reference: reference[:30],
)
def test_what_is_no_reference_is_refused_in_few_words(reference: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        artefacts.parse(reference)

    assert len(caught.value.text) < 300

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.identity import claims, keys, sections
from lattice.identity.claims import Claims
from lattice.identity.keys import Kind
from tests.support.wat import actor, assemble
from tests.unit.lattice.identity.golden import COMPONENT, ISSUER, PROVIDER, SEEDS, golden

NOW = 1_800_000_000

ACCOUNT = keys.parse_seed(SEEDS[ISSUER])
STRANGER = keys.parse_seed(keys.new_seed(Kind.ACCOUNT))
ANYBODY: frozenset[str] = frozenset()
US = frozenset({ACCOUNT.public_key})

ECHO = Claims(
    kind="component",
    subject=COMPONENT,
    name="Echo",
    revision=3,
    version="0.3.0",
    tags=("a", "b"),
    call_alias="acme/echo",
    issued_at=NOW,
)


def token_of(body: dict[str, Any], *, header: object = None, key: keys.KeyPair = ACCOUNT) -> str:
    """A token of whatever is in the body, with a right signature."""

    def segment(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    content = f"{segment(header or {'typ': 'jwt', 'alg': 'Ed25519'})}.{segment(body)}"
    signature = base64.urlsafe_b64encode(key.sign(content.encode())).decode().rstrip("=")
    return f"{content}.{signature}"


def body(**changes: object) -> dict[str, Any]:
    """What stands in a token of wascap."""
    whole = {
        "jti": "id",
        "iat": NOW,
        "iss": ACCOUNT.public_key,
        "sub": COMPONENT,
        "wascap": {"hash": "", "prov": False},
        "wascap_revision": 3,
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


@pytest.mark.parametrize("name", ["component", "module"])
def test_what_wasmcloud_signed_is_verified(name: str) -> None:
    found = claims.component_claims(golden(name))

    assert found is not None
    assert found.covers_content
    assert (found.kind, found.issuer, found.subject) == ("component", ISSUER, COMPONENT)
    assert (found.name, found.revision, found.version) == ("counter", 7, "1.2.3")
    assert (found.tags, found.call_alias) == (("a", "b"), "some/alias")
    assert (found.expires, found.not_before, found.wascap_revision) == (None, None, 3)


def test_a_token_is_spelled_as_wasmcloud_spells_it() -> None:
    theirs = claims.component_claims(golden("module"))
    assert theirs is not None

    ours = claims.sign(theirs, ACCOUNT.seed)

    # Ed25519 is deterministic: the same text has the same signature.
    assert ours.token == theirs.token


def test_a_module_that_we_sign_verifies_and_still_runs() -> None:
    signed = claims.sign_component(actor("echo"), ECHO, ACCOUNT.seed)

    found = claims.component_claims(signed)

    assert found is not None
    assert found == replace(
        ECHO,
        issuer=ACCOUNT.public_key,
        jti=found.jti,
        hash=claims.content_hash(actor("echo")),
        wascap_revision=3,
        covers_content=True,
        token=found.token,
    )
    assert len(found.jti) == claims.ID_CHARS
    assert sections.strip(signed, claims.SECTIONS) == actor("echo")


def test_a_module_that_is_not_signed_has_no_claims() -> None:
    assert claims.component_claims(actor("echo")) is None
    assert claims.embedded(actor("echo")) is None


def test_signing_again_replaces_the_claims() -> None:
    once = claims.sign_component(actor("echo"), ECHO, ACCOUNT.seed)
    twice = claims.sign_component(once, replace(ECHO, revision=4), STRANGER.seed)

    found = claims.component_claims(twice)

    assert found is not None
    assert (found.revision, found.issuer) == (4, STRANGER.public_key)
    assert [name for name, _ in sections.custom(twice)].count(claims.SECTION) == 1


def test_a_module_changed_after_it_was_signed_is_denied() -> None:
    signed = claims.sign_component(actor("echo"), ECHO, ACCOUNT.seed)

    with pytest.raises(errors.Denied, match="changed after"):
        claims.component_claims(sections.append(signed, "more", b"code"))


def test_the_claims_of_one_module_do_not_fit_another() -> None:
    token = claims.embedded(claims.sign_component(actor("echo"), ECHO, ACCOUNT.seed))
    assert token is not None

    with pytest.raises(errors.Denied, match="changed after"):
        claims.component_claims(claims.embed(actor("spin"), token))


def test_a_forged_issuer_is_denied() -> None:
    forged = token_of(body(), key=STRANGER)

    with pytest.raises(errors.Denied, match="forged"):
        claims.decode_and_verify(forged)


def test_claims_changed_after_they_were_signed_are_denied() -> None:
    header, _, signature = claims.sign(ECHO, ACCOUNT.seed).token.split(".")
    _, richer, _ = claims.sign(replace(ECHO, revision=9), ACCOUNT.seed).token.split(".")

    with pytest.raises(errors.Denied, match="forged"):
        claims.decode_and_verify(f"{header}.{richer}.{signature}")


def test_a_claim_in_a_nested_module_is_not_the_component_s() -> None:
    token = claims.sign(ECHO, ACCOUNT.seed).token
    nested = assemble(f'(component (core module (@custom "wasmcloud_jwt" "{token}")))')

    assert claims.component_claims(nested) is None


def test_a_token_of_an_old_wascap_is_taken_but_covers_nothing() -> None:
    old = body(wascap={"hash": "OF SOMETHING", "caps": ["wasmcloud:keyvalue"]}, wascap_revision=2)
    wasm = claims.embed(actor("echo"), token_of(old))

    found = claims.component_claims(wasm)

    assert found is not None
    assert not found.covers_content
    claims.check_issuer(found, ANYBODY)
    with pytest.raises(errors.Denied, match="sign it again"):
        claims.check_issuer(found, US)


def test_an_old_token_whose_hash_is_right_covers_its_module() -> None:
    old = body(wascap={"hash": claims.content_hash(actor("echo"))}, wascap_revision=None)
    wasm = sections.append(actor("echo"), claims.LEGACY_SECTION, token_of(old).encode())

    found = claims.component_claims(wasm)

    assert found is not None
    assert found.covers_content
    claims.check_issuer(found, US)


def test_a_provider_s_claims_say_what_wascap_s_do() -> None:
    schema = {"type": "object"}
    provider = Claims(
        kind="provider",
        subject=PROVIDER,
        name="Keeper",
        vendor="Acme",
        revision=1,
        version="2",
        target_hashes={"x86_64-linux": "AB"},
        config_schema=json.dumps(schema),
        issued_at=NOW,
    )

    found = claims.sign(provider, ACCOUNT.seed)

    assert found.kind == "provider"
    assert (found.vendor, found.target_hashes) == ("Acme", {"x86_64-linux": "AB"})
    assert json.loads(found.config_schema or "") == schema
    segment = found.token.split(".")[1]
    wire = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    assert wire["wascap"] == {
        "name": "Keeper",
        "vendor": "Acme",
        "rev": 1,
        "ver": "2",
        "target_hashes": {"x86_64-linux": "AB"},
        "config_schema": schema,
    }


@pytest.mark.parametrize("kind", [Kind.ACCOUNT, Kind.OPERATOR, Kind.CLUSTER, Kind.HOST])
def test_other_things_have_claims_too(kind: Kind) -> None:
    operator = keys.new_seed(Kind.OPERATOR)
    subject = keys.parse_seed(keys.new_seed(kind)).public_key

    found = claims.sign(Claims(kind=kind.word, subject=subject, name="x", issued_at=NOW), operator)

    assert (found.kind, found.subject, found.name) == (kind.word, subject, "x")


def test_a_provider_s_claims_in_a_module_are_refused() -> None:
    provider = Claims(kind="provider", subject=PROVIDER, vendor="Acme", issued_at=NOW)
    wasm = claims.embed(actor("echo"), claims.sign(provider, ACCOUNT.seed).token)

    with pytest.raises(errors.InvalidRequest, match="about a provider"):
        claims.component_claims(wasm)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"iss": None}, "iss"),
        ({"iss": "nobody"}, "issuer"),
        ({"sub": "test.wasm"}, "subject"),
        ({"sub": ""}, "subject"),
        pytest.param(
            {"sub": keys.parse_seed(keys.new_seed(Kind.USER)).public_key},
            "about a user",
            id="a user's key",
        ),
        ({"iat": "yesterday"}, "iat"),
        ({"iat": 1.5}, "iat"),
        ({"iat": True}, "iat"),
        ({"exp": -1}, "exp"),
        ({"exp": 1 << 64}, "exp"),
        ({"wascap": None}, "wascap"),
        ({"wascap": []}, "wascap"),
        ({"wascap": {}}, "hash"),
        ({"wascap": {"hash": "", "tags": "a,b"}}, "tags"),
        ({"wascap": {"hash": "", "rev": 1 << 31}}, "rev"),
        ({"wascap": {"hash": "", "name": "\ud800"}}, "name"),
        ({"wascap_revision": -1}, "wascap_revision"),
        ({"jti": 5}, "jti"),
    ],
    ids=str,
)
def test_claims_of_the_wrong_shape_are_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=fault):
        claims.decode_and_verify(token_of(body(**changes)))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "..",
        "!.!.!",
        "e30.e30.",
        token_of(body()).replace(".", ".="),
        token_of(body(), header={"typ": "jwt", "alg": "none"}),
        token_of(body(), header=["jwt"]),
        "é.é.é",
        "W10.W10.W10",
        f"e30.{base64.urlsafe_b64encode(b'[' * 100_000).decode().rstrip('=')}.e30",
    ],
    ids=[
        "empty",
        "two segments",
        "four segments",
        "empty segments",
        "not base64",
        "empty objects",
        "padded",
        "no algorithm",
        "header of a list",
        "not ASCII",
        "lists",
        "deep",
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="malformed"):
        claims.decode_and_verify(token)


def test_a_token_without_a_signature_is_denied() -> None:
    unsigned = token_of(body()).rpartition(".")[0] + "."

    with pytest.raises(errors.Denied, match="forged"):
        claims.decode_and_verify(unsigned)


def test_a_huge_token_is_refused_unread() -> None:
    with pytest.raises(errors.PayloadTooLarge):
        claims.decode_and_verify("A" * (claims.TOKEN_BYTES_MAX + 1))


def test_a_token_that_is_not_text_is_refused() -> None:
    wasm = sections.append(actor("echo"), claims.SECTION, b"\xff\xfe")

    with pytest.raises(errors.InvalidRequest, match="not text"):
        claims.component_claims(wasm)


@given(st.integers(0, 500), st.integers(0, 255))
def test_no_damage_to_a_signed_module_goes_unnoticed(position: int, byte: int) -> None:
    original = golden("module")
    damaged = bytearray(original)
    damaged[position % len(damaged)] = byte

    try:
        found = claims.component_claims(bytes(damaged))
    except (errors.InvalidRequest, errors.Denied):
        return
    # Without its section's name it is a module that nobody signed.
    assert found is None or claims.content_hash(bytes(damaged)) == claims.content_hash(original)


def test_claims_hold_from_their_first_second_to_their_last() -> None:
    short = replace(ECHO, not_before=NOW, expires=NOW + 10)

    claims.check_now(short, NOW)
    claims.check_now(short, NOW + 10)
    claims.check_now(ECHO, 0)
    with pytest.raises(errors.Denied, match="not valid before 2027-01-15 08:00:00 UTC"):
        claims.check_now(short, NOW - 1)
    with pytest.raises(errors.Denied, match="Echo expired on 2027-01-15 08:00:10 UTC"):
        claims.check_now(short, NOW + 11)


def test_a_time_beyond_all_calendars_is_still_a_time() -> None:
    claims.check_now(replace(ECHO, expires=(1 << 64) - 1), NOW)
    with pytest.raises(errors.Denied, match="second 18446744073709551615"):
        claims.check_now(replace(ECHO, not_before=(1 << 64) - 1), NOW)


def test_everybody_is_trusted_until_somebody_is_named() -> None:
    claims.check_issuer(None, ANYBODY)
    claims.check_issuer(replace(ECHO, issuer=STRANGER.public_key), ANYBODY)


def test_a_trusted_issuer_s_work_is_taken_and_others_is_denied() -> None:
    ours = claims.component_claims(claims.sign_component(actor("echo"), ECHO, ACCOUNT.seed))
    theirs = claims.component_claims(claims.sign_component(actor("echo"), ECHO, STRANGER.seed))

    claims.check_issuer(ours, US)
    with pytest.raises(errors.Denied, match=rf"{STRANGER.public_key}.*TRUSTED_ISSUERS"):
        claims.check_issuer(theirs, US)
    with pytest.raises(errors.Denied, match=r"not signed.*lattice claims sign"):
        claims.check_issuer(None, US)


@pytest.mark.parametrize(
    "seed",
    ["", "geheim", keys.new_seed(Kind.CURVE)],
    ids=["nothing", "no seed", "the seed of a curve key"],
)
def test_what_can_t_sign_does_not(seed: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        claims.sign(ECHO, seed)

    assert not seed or seed not in caught.value.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": "nobody"},
        {"revision": 1 << 31},
        {"expires": -1},
        {"name": "\udcff"},
    ],
    ids=str,
)
def test_what_could_not_be_read_is_not_signed(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest):
        claims.sign(replace(ECHO, **wrong), ACCOUNT.seed)


@pytest.mark.parametrize("alias", ["abc123", "my/sub_three"])
def test_a_call_alias_is_lower_case(alias: str) -> None:
    assert claims.check_call_alias(alias) == alias


@pytest.mark.parametrize("alias", ["", "hello*", "camelCase", "a-b", COMPONENT, "a\n"])
def test_another_call_alias_is_refused(alias: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="call alias"):
        claims.check_call_alias(alias)


def test_a_hash_is_in_upper_case() -> None:
    assert claims.hash_of(b"x") == hashlib.sha256(b"x").hexdigest().upper()

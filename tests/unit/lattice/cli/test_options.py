"""The common options: where they come from, and ``key=value`` arguments."""

from pathlib import Path

import pytest

from lattice import errors
from lattice.cli import options
from lattice.cli.options import Options
from lattice.cli.output import Form


def test_options_given_after_the_command_win() -> None:
    general = Options(nats="nats://a", lattice="a", output=Form.JSON, debug=True)

    both = Options(nats="nats://b", timeout_ms=5).over(general)

    assert both == Options(nats="nats://b", lattice="a", timeout_ms=5, output=Form.JSON, debug=True)


def test_without_options_the_usual_places_are_meant() -> None:
    nothing = Options()

    assert nothing.servers == ("nats://127.0.0.1:4222",)
    assert nothing.lattice_name == "default"
    assert nothing.timeout_s == 2.0
    assert nothing.form is Form.TEXT


def test_several_servers_are_separated_by_commas() -> None:
    assert Options(nats="nats://a:1, nats://b:2,").servers == ("nats://a:1", "nats://b:2")


@pytest.mark.parametrize("name", ["a.b", "a b", "*", "ä"])
def test_what_is_no_name_for_a_lattice_is_refused(name: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        _ = Options(lattice=name).lattice_name


def test_a_credentials_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match=r"no credentials file .*user\.creds"):
        _ = Options(credentials=str(tmp_path / "user.creds")).settings


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert options.pairs(["a=1", "b=c=d", "e="], "value") == {"a": "1", "b": "c=d", "e": ""}


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [(["a"], "not of the form"), (["=a"], "not of the form"), (["a=1", "a=2"], "given twice")],
    ids=["no equals sign", "no key", "twice"],
)
def test_what_is_no_pair_is_refused(texts: list[str], complaint: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=complaint):
        options.pairs(texts, "value")

import pytest

from lattice.bus import NatsSettings
from lattice.bus.credentials import _common_login, without_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://user:pass@host:4222", "nats://host:4222"),
        ("user:p@ss@host", "nats://host"),
        ("tls://token@[::1]:4222", "tls://[::1]:4222"),
        ("localhost", "nats://localhost"),
        ("wss://user:pass@host/path", "wss://host/path"),
        ("nats://[::1", "nats://[::1"),
        ("", "nats://"),
    ],
)
def test_a_url_is_shown_without_its_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("servers", "login"),
    [
        (["nats://u:p@one", "nats://u:p@two:4223"], ("u", "p")),
        (["u:p@one"], ("u", "p")),
        (["nats://u:p@one", "nats://v:p@two"], None),
        (["nats://u:p@one", "nats://two"], None),
        (["nats://token@one"], None),
        (["nats://one"], None),
        (["nats://[::1"], None),
        ([], None),
    ],
)
def test_a_login_that_all_servers_share_is_for_those_that_nobody_named(
    servers: list[str], login: tuple[str, str] | None
) -> None:
    assert _common_login(servers) == login


def test_settings_show_no_secrets() -> None:
    settings = NatsSettings(
        servers=("nats://user:geheim@host",), user_jwt="geheim", user_seed="geheim"
    )

    assert "geheim" not in repr(settings)

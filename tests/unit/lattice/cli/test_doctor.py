"""What the doctor finds out by itself, without a lattice."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lattice.cli import checks, doctor
from lattice.cli.checks import Finding, Incident, Level, Monitor
from lattice.wire import codec, events


class Monitoring(BaseHTTPRequestHandler):
    """Answers as a nats-server's monitoring does, or with what the test says."""

    content = json.dumps({"ping_interval": 3_000_000_000, "ping_max": 2, "more": []}).encode()

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/varz" else 404)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
        return


@pytest.fixture
def monitoring() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Monitoring) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Arrived:
    """A message as the bus hands it over."""

    subject = reply = ""
    headers: dict[str, str] | None = None

    def __init__(self, data: bytes) -> None:
        self.data = data


def test_a_monitoring_port_says_how_dead_connections_are_noticed(monitoring: str) -> None:
    assert doctor.read_monitor(monitoring) == Monitor(ping_interval_s=3.0, pings_max=2)
    assert doctor.read_monitor(f"{monitoring}/") is not None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"ping_interval": "x", "ping_max": 1}'])
def test_what_is_no_monitoring_port_says_nothing(
    monitoring: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitoring, "content", content)

    assert doctor.read_monitor(monitoring) is None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:1", "nonsense"])
def test_only_the_web_is_read(url: str) -> None:
    assert doctor.read_monitor(url) is None


def test_a_cache_directory_that_can_not_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert doctor.this_machine(tmp_path / "cache").cache_fault == ""
    assert "can't be written" in doctor.this_machine(tmp_path / "file" / "cache").cache_fault


async def test_clocks_are_heard_from_beats_and_from_events() -> None:
    ear = doctor.Ear()

    await ear.hear_beat(Arrived(codec.pack({"id": "N1", "time": time.time() - 60})))
    await ear.hear_event(Arrived(events.encode("health_check_passed", {}, source="N2")))

    assert -61 < ear.skew_s["N1"] < -59
    assert abs(ear.skew_s["N2"]) < checks.CLOCK_SKEW_S_MAX


async def test_failures_are_noted_and_everything_else_is_not() -> None:
    ear = doctor.Ear()

    for name in ("provider_crashed", "component_scaled"):
        data = {"provider_id": "kv", "reason": "exit status 1"}
        await ear.hear_event(Arrived(events.encode(name, data, source="N1")))

    assert ear.incidents == [
        Incident(name="provider_crashed", entity="kv", host="N1", reason="exit status 1")
    ]


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xff", b"\x93\x01\x02\x03", b"null"])
async def test_rubbish_is_heard_without_a_word(data: bytes) -> None:
    ear = doctor.Ear()

    await ear.hear_beat(Arrived(data))
    await ear.hear_event(Arrived(data))

    assert (ear.skew_s, ear.incidents) == ({}, [])


def test_a_finding_is_shown_with_its_mark_and_its_remedy() -> None:
    lines = doctor.finding_text(Finding("links", Level.PROBLEM, "a link\x1b[2J", "put it"))

    assert [str(line) for line in lines] == ["✗ a link\\x1b[2J", "  remedy: put it"]

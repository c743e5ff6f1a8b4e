"""The control interface to the byte: every request, answer and event as recorded.

``pytest tests/integration/test_golden.py --record`` writes the recordings anew from their requests;
a difference in one is a change of what wasmCloud's tools see, and belongs into the changelog.
"""

from pathlib import Path

import pytest

from host.supervise import supervisor
from lattice.identity import keys
from lattice.identity.keys import Kind
from tests.support.cluster import Cluster
from tests.support.replay import Replay, Step, steps, words_of
from tests.support.signing import Author, forged, public_key
from tests.support.wat import actor as assembled

RECORDINGS = Path(__file__).parents[1] / "golden" / "control"

SETTINGS: dict[str, dict[str, object]] = {"heartbeat": {"heartbeat_s": 0.05}}
"""Of the host, where a recording wants others."""


async def words(cluster: Cluster, host_seed: str) -> dict[str, str]:
    """What varies from run to run, and what stands for it in the recordings."""
    author, subject = Author(), public_key(Kind.COMPONENT)
    signed = author.sign(
        assembled("echo"), subject=subject, name="Echo", revision=7, version="1.2.3", tags=("a",)
    )
    return words_of(
        host_id=keys.host_id(host_seed),
        issuer=author.id,
        subject=subject,
        signed_ref=await cluster.upload("echo", signed),
        forged_ref=await cluster.upload("echo", forged(signed)),
        echo_ref=await cluster.upload("echo"),
        other_ref=await cluster.upload("echo_wasmbus"),
        broken_ref=await cluster.upload("broken", b"no module"),
        nats_url=cluster.nats.url,
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.glob("*.jsonl")))
async def test_a_host_says_what_is_recorded(
    cluster: Cluster, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = RECORDINGS / f"{name}.jsonl"
    monkeypatch.setattr(supervisor, "FIRST_HEALTH_S", 0 if name == "health" else 3600)
    seed = keys.new_host_seed()
    replay = Replay(cluster, await words(cluster, seed))
    settings = {"heartbeat_s": 3600} | SETTINGS.get(name, {})
    if name == "host":
        await replay.open()
    await cluster.start_hosts(1, name="alpha", labels={"zone": "a"}, host_seed=seed, **settings)
    if name != "host":
        await replay.open()
    if request.config.getoption("--record"):
        done = [(step, await replay.record(step)) for step in steps(recording)]
        lines = [line for step, outcome in done for line in (step.request, *outcome) if line]
        recording.write_text("\n".join(lines) + "\n")
        return
    for step in steps(recording):
        assert await replay.check(step) == step.outcome, step.request
    if cluster.hosts[0].running:
        # Everything that the host said before this answer has arrived with it.
        assert await replay.check(Step(None, [])) == []

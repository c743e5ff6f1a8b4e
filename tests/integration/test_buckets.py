"""Key-value buckets and their mirrors over a real JetStream."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.js.errors
import pytest
from nats.js import JetStreamManager, api
from nats.js.kv import KeyValue
from structlog.testing import capture_logs

from lattice import errors
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bucket, Bus, NatsSettings, buckets
from lattice.bus.buckets import Changes, Mirror
from lattice.bus.server import NatsServer
from tests.support.configured_nats import configured_nats
from tests.support.eventually import eventually
from tests.support.nats_server import connected, nats_server


@pytest.fixture
async def bucket(bus: Bus, lattice_name: str) -> Bucket:
    return await bus.bucket(lattice_name)


class Following:
    """A mirror that is running, and what it has told."""

    def __init__(self, bucket: Bucket, tasks: TaskGroup) -> None:
        self.told: list[dict[str, bytes | None]] = []
        self.mirror: Mirror = bucket.mirror(self._changed)
        tasks.guard(self.mirror.run, name="follow")

    @property
    def values(self) -> dict[str, bytes]:
        return self.mirror.values

    def _changed(self, changes: Changes) -> None:
        self.told.append(dict(changes))


@pytest.fixture
async def tasks(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskGroup]:
    monkeypatch.setattr(buckets, "QUIET_CHECK_S", 0.1)
    monkeypatch.setattr(buckets, "RESYNC_SPREAD_S", 0.01)
    monkeypatch.setattr(buckets, "RETRY_DELAY_S", 0.05)
    tasks = TaskGroup("test")
    yield tasks
    await tasks.aclose()


async def until_none(watcher: KeyValue.KeyWatcher) -> AsyncIterator[KeyValue.Entry]:
    while (entry := await watcher.updates()) is not None:  # type: ignore[no-untyped-call]
        yield entry


def subscription_of(bus: Bus, stream: str) -> Any:
    """The client's own subscription of the watch on a stream."""
    (found,) = [
        sub for sub in bus._client._subs.values() if sub._jsi and sub._jsi._stream == stream
    ]
    return found


async def hold_up(bus: Bus, subscription: Any) -> None:
    """Have a subscription hand nothing over until its queue is full."""
    callback = subscription._cb

    async def wait(message: Any) -> None:
        await eventually(lambda: bus.statistics().dropped)
        await callback(message)

    subscription._cb = wait


class TestBucket:
    async def test_what_was_put_is_read_with_its_revision(self, bucket: Bucket) -> None:
        revision = await bucket.put("key", b"value")

        assert await bucket.get("key") == buckets.Entry("key", b"value", revision)

    async def test_a_key_that_never_was_is_none(self, bucket: Bucket) -> None:
        assert await bucket.get("never") is None

    async def test_a_deleted_key_is_none(self, bucket: Bucket) -> None:
        revision = await bucket.put("purged", b"value")
        await bucket.delete("purged")
        revision = await bucket.put("deleted", b"value")
        await bucket.delete("deleted", expected=revision)

        assert await bucket.get("purged") is None
        assert await bucket.get("deleted") is None

    async def test_a_key_that_somebody_made_a_moment_ago_is_a_conflict(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two links put at once were a bug to one of them, on a cluster of three servers."""

        async def not_shown_yet(*_: object, **__: object) -> None:
            raise nats.js.errors.KeyNotFoundError

        await bucket.put("key", b"theirs")
        monkeypatch.setattr(bucket._store, "_get", not_shown_yet)

        with pytest.raises(errors.Conflict):
            await bucket.put("key", b"ours", expected=0)

    async def test_an_error_without_a_description_is_told_in_its_own_words(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            raise nats.js.errors.NoKeysError

        monkeypatch.setattr(bucket._store, "put", fail)

        with pytest.raises(errors.Unavailable, match="no keys"):
            await bucket.put("key", b"value")

    async def test_deleting_what_is_not_there_is_no_error(self, bucket: Bucket) -> None:
        await bucket.delete("never")
        await bucket.delete("never")

    async def test_its_keys_are_told_with_those_that_were_deleted(
        self, bucket: Bucket, bus: Bus, lattice_name: str
    ) -> None:
        assert await bucket.keys(keys_max=0) == []
        for key in ("a", "b.c", "d=20"):
            await bucket.put(key, b"value")
        other = await bus.bucket(f"{lattice_name}-other")
        await other.put("elsewhere", b"")
        await bucket.delete("a")
        assert sorted(await bucket.keys(keys_max=3)) == ["a", "b.c", "d=20"]

    async def test_more_keys_than_are_wanted_are_refused_naming_both_numbers(
        self, bucket: Bucket
    ) -> None:
        for key in "abc":
            await bucket.put(key, b"value")
        with pytest.raises(errors.InvalidRequest, match=r"has 3 keys or more, .* limited to 2"):
            await bucket.keys(keys_max=2)

    async def test_old_values_of_a_key_are_not_more_keys(self, bus: Bus, lattice_name: str) -> None:
        bucket = await bus.bucket(f"{lattice_name}-history", history=5)
        for number in range(5):
            await bucket.put("a", b"%d" % number)
        assert await bucket.keys(keys_max=1) == ["a"]

    async def test_an_empty_value_is_a_value(self, bucket: Bucket) -> None:
        await bucket.put("key", b"")

        entry = await bucket.get("key")
        assert entry is not None
        assert entry.value == b""

    async def test_a_write_names_the_revision_it_replaces(self, bucket: Bucket) -> None:
        first = await bucket.put("key", b"1", expected=0)
        second = await bucket.put("key", b"2", expected=first)

        for stale in (0, first):
            with pytest.raises(errors.Conflict):
                await bucket.put("key", b"3", expected=stale)
        with pytest.raises(errors.Conflict):
            await bucket.delete("key", expected=first)
        entry = await bucket.get("key")
        assert entry == buckets.Entry("key", b"2", second)

    @pytest.mark.parametrize("expected", [None, "revision"])
    async def test_a_deleted_key_can_be_made_again(
        self, bucket: Bucket, expected: str | None
    ) -> None:
        revision = await bucket.put("key", b"1")
        await bucket.delete("key", expected=revision if expected else None)

        await bucket.put("key", b"2", expected=0)

        entry = await bucket.get("key")
        assert entry is not None
        assert entry.value == b"2"

    async def test_a_hundred_writers_all_count(self, bucket: Bucket) -> None:
        async def increment() -> None:
            while True:
                entry = await bucket.get("counter")
                count = int(entry.value) if entry else 0
                revision = entry.revision if entry else 0
                try:
                    await bucket.put("counter", b"%d" % (count + 1), expected=revision)
                except errors.Conflict:
                    continue
                return

        await asyncio.gather(*(increment() for _ in range(100)))

        entry = await bucket.get("counter")
        assert entry is not None
        assert entry.value == b"100"

    @pytest.mark.parametrize(
        "key", ["", ".", ".a", "a.", "a..b", "a b", "*", ">", "a.*", "ü", "a\n", "a\x00", "k" + "é"]
    )
    async def test_what_is_no_key_is_refused_before_it_is_sent(
        self, bucket: Bucket, key: str
    ) -> None:
        with pytest.raises(errors.InvalidRequest):
            await bucket.get(key)
        with pytest.raises(errors.InvalidRequest):
            await bucket.put(key, b"")
        with pytest.raises(errors.InvalidRequest):
            await bucket.delete(key)

    @pytest.mark.parametrize("key", ["a", "-", "_", "a.b.c", "a/b=c", "COMPONENT_x-1", "A" * 500])
    async def test_every_proper_key_works(self, bucket: Bucket, key: str) -> None:
        await bucket.put(key, b"value")

        assert await bucket.get(key)

    async def test_a_value_over_the_servers_limit_names_both_numbers(
        self, bus: Bus, bucket: Bucket
    ) -> None:
        with pytest.raises(errors.PayloadTooLarge) as caught:
            await bucket.put("key", bytes(bus.max_payload + 1))

        assert caught.value.detail == {"size": bus.max_payload + 1, "limit": bus.max_payload}

    async def test_many_processes_may_make_the_bucket_at_once(
        self, nats: NatsServer, lattice_name: str
    ) -> None:
        async with connected(nats) as one, connected(nats) as other:
            opened = await asyncio.gather(
                *(bus.bucket(lattice_name) for bus in (one, other) for _ in range(10))
            )
            await opened[0].put("key", b"value")

            assert await opened[-1].get("key")

    async def test_one_with_fewer_replicas_than_wanted_is_told_and_left_as_it_is(
        self, bus: Bus, bucket: Bucket
    ) -> None:
        with capture_logs() as logs:
            await bus.bucket(bucket.name, replicas=3)

        (told,) = logs
        assert (told["stream"], told["replicas"], told["wanted"]) == (f"KV_{bucket.name}", 1, 3)
        assert await bus.account.replicas(bucket.name) == 1
        assert await bus.account.replicas("never") == 1

    async def test_without_a_server_it_is_unavailable(self, lattice_name: str) -> None:
        async with nats_server() as server, connected(server) as bus:
            bucket = await bus.bucket(lattice_name)
            await server.aclose()

            with pytest.raises(errors.Unavailable):
                await bucket.get("key")
            with pytest.raises(errors.Unavailable):
                await bucket.put("key", b"")
            with pytest.raises(errors.Unavailable):
                await bus.bucket("other")


class TestMirror:
    async def test_it_begins_with_what_is_there(self, bucket: Bucket, tasks: TaskGroup) -> None:
        await bucket.put("a", b"1")
        await bucket.put("b", b"2")
        await bucket.put("gone", b"3")
        await bucket.delete("gone")

        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        assert following.values == {"a": b"1", "b": b"2"}
        assert following.told == [{"a": b"1", "b": b"2"}]

    async def test_an_empty_bucket_is_in_sync_at_once(
        self, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        following = Following(bucket, tasks)

        await following.mirror.synced.wait()

        assert following.values == {}
        assert following.told == []

    async def test_it_follows_changes_and_deletions(self, bucket: Bucket, tasks: TaskGroup) -> None:
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        for key, value in (
            ("a", b"1"),
            ("a", b"2"),
            ("a", None),
            ("b", b"1"),
            ("b", None),
            ("c", b""),
        ):
            last = await (bucket.delete(key) if value is None else bucket.put(key, value))
            # What comes together is told together, and of one key only the last.
            assert await following.mirror.wait_for(last, timeout_s=5)

        assert following.values == {"c": b""}
        assert following.told == [
            {"a": b"1"},
            {"a": b"2"},
            {"a": None},
            {"b": b"1"},
            {"b": None},
            {"c": b""},
        ]

    async def test_a_value_written_again_is_no_change(
        self, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        await bucket.put("a", b"1")
        last = await bucket.put("a", b"1")

        assert await following.mirror.wait_for(last, timeout_s=5)
        assert following.told == [{"a": b"1"}]

    async def test_waiting_for_a_revision_that_does_not_come_ends(
        self, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        assert not await following.mirror.wait_for(1000, timeout_s=0.02)

    async def test_several_may_wait_for_revisions(self, bucket: Bucket, tasks: TaskGroup) -> None:
        following = Following(bucket, tasks)

        waits = [following.mirror.wait_for(n, timeout_s=5) for n in (1, 2, 3)]
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(wait) for wait in waits]
            for _ in range(3):
                await bucket.put("a", b"x")

        assert all(wait.result() for wait in waiting)

    async def test_thousands_of_keys_are_read_in_full(
        self, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        await asyncio.gather(*(bucket.put(f"key-{n}", b"%d" % n) for n in range(2_000)))

        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        assert len(following.values) == 2_000

    async def test_a_first_read_that_seems_to_end_at_once_is_not_believed(
        self, bucket: Bucket, tasks: TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for key in ("a", "b", "c"):
            await bucket.put(key, b"1")
        watchall = bucket._store.watchall

        async def watch_with_the_end_first(**options: float) -> KeyValue.KeyWatcher:
            watcher = await watchall(**options)
            entries = [entry async for entry in until_none(watcher)]
            for early in (None, *entries):
                watcher._updates.put_nowait(early)
            return watcher

        monkeypatch.setattr(bucket._store, "watchall", watch_with_the_end_first)
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        assert following.values == {"a": b"1", "b": b"1", "c": b"1"}
        assert len(following.told) == 1

    async def test_it_catches_up_after_the_server_was_away(
        self, tasks: TaskGroup, tmp_path: Path, lattice_name: str
    ) -> None:
        async with nats_server(store_dir=tmp_path) as server, connected(server) as bus:
            port = int(server.url.rpartition(":")[2])
            bucket = await bus.bucket(lattice_name)
            await bucket.put("kept", b"1")
            await bucket.put("changed", b"1")
            await bucket.put("removed", b"1")
            following = Following(bucket, tasks)
            bus.on_reconnect(following.mirror.resync)
            await following.mirror.synced.wait()
            following.told.clear()
            await server.aclose()
            assert len(following.values) == 3

            async with nats_server(store_dir=tmp_path, port=port) as again:
                async with connected(again) as writer:
                    other = await writer.bucket(lattice_name)
                    await other.put("changed", b"2")
                    await other.delete("removed")
                    await other.put("new", b"1")

                await eventually(
                    lambda: following.values == {"kept": b"1", "changed": b"2", "new": b"1"}
                )
                last = await bucket.put("later", b"1")
                assert await following.mirror.wait_for(last, timeout_s=5)
        told = {key for changes in following.told for key in changes}
        assert told == {"changed", "removed", "new", "later"}

    async def test_a_watch_that_ended_in_silence_is_noticed(
        self, bus: Bus, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()
        stream = f"KV_{bucket.name}"
        for consumer in await bus._jetstream.consumers_info(stream):
            await bus._jetstream.delete_consumer(stream, consumer.name)

        await bucket.put("missed", b"1")

        await eventually(lambda: following.values == {"missed": b"1"})

    async def test_a_resync_asked_for_while_changes_arrive_is_not_lost(
        self, bucket: Bucket, tasks: TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watches = 0
        watchall = bucket._store.watchall

        async def count(**options: float) -> KeyValue.KeyWatcher:
            nonlocal watches
            watches += 1
            return await watchall(**options)

        monkeypatch.setattr(bucket._store, "watchall", count)
        await bucket.put("a", b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        for wanted in range(2, 12):
            # At this moment the end of the read waits to be taken.
            following.mirror.resync()
            await eventually(lambda: watches == wanted and following.mirror._session)  # noqa: B023 - awaited here

    async def test_a_mirror_that_is_stopped_while_its_watch_is_made_leaves_nothing(
        self, nats: NatsServer, lattice_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with connected(nats) as bus:
            bucket = await bus.bucket(lattice_name)
            asked = asyncio.Event()

            async def never(*_: object, **__: object) -> None:
                asked.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(JetStreamManager, "consumer_info", never)
            tasks = TaskGroup("test")
            tasks.guard(bucket.mirror(lambda _: None).run, name="follow")
            await asked.wait()
            await tasks.aclose()

    async def test_a_server_that_names_acknowledgements_anew_is_understood(
        self, tmp_path: Path, lattice_name: str, tasks: TaskGroup
    ) -> None:
        """The client of old would go deaf, without a word, at the first change."""
        configuration = f"""
            jetstream {{ store_dir: "{tmp_path}/store", domain: hub }}
            feature_flags {{ js_ack_fc_v2: true }}"""
        async with configured_nats(tmp_path, configuration) as url:
            bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
            bucket = await bus.bucket(lattice_name)
            await bucket.put("a", b"1")
            following = Following(bucket, tasks)
            await following.mirror.synced.wait()
            last = await bucket.put("b", b"1")

            assert await following.mirror.wait_for(last, timeout_s=5)
            assert following.values == {"a": b"1", "b": b"1"}
            assert bus.statistics().reconnects == 0
            await tasks.aclose()
            await bus.aclose()

    async def test_changes_that_had_no_room_are_read_again(
        self, bus: Bus, nats: NatsServer, lattice_name: str, tasks: TaskGroup
    ) -> None:
        """The watch's own check of its sequence passes over what the client dropped."""
        async with connected(nats) as slow:
            following = Following(await slow.bucket(lattice_name), tasks)
            await following.mirror.synced.wait()
            bucket = await bus.bucket(lattice_name)
            watch = subscription_of(slow, f"KV_{lattice_name}")
            watch._pending_queue._maxsize = 1
            await hold_up(slow, watch)
            for n in range(50):
                await bucket.put(f"key-{n}", b"1")
            await slow.flush()
            assert slow.statistics().dropped
            watch._pending_queue._maxsize = 1000
            await bucket.put("later", b"1")

            await eventually(lambda: len(following.values) == 51)
        assert slow.statistics().dropped_by_subject

    async def test_a_read_with_gaps_does_not_take_keys_for_deleted(
        self, bus: Bus, bucket: Bucket, tasks: TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for key in ("a", "b", "c"):
            await bucket.put(key, b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()
        watchall = bucket._store.watchall
        gaps = 0

        async def watch_with_a_gap(**options: float) -> KeyValue.KeyWatcher:
            nonlocal gaps
            watcher = await watchall(**options)
            if gaps < 3:
                gaps += 1
                entries = [entry async for entry in until_none(watcher)]
                for entry in entries[1:]:
                    watcher._updates.put_nowait(entry)
                subscription: Any = watcher._sub
                bus._client.drops.note("$KV", subscription._sub)
            return watcher

        monkeypatch.setattr(bucket._store, "watchall", watch_with_a_gap)
        following.mirror.resync()
        await eventually(lambda: gaps == 3)
        last = await bucket.put("later", b"1")

        assert await following.mirror.wait_for(last, timeout_s=5)
        assert following.told == [{"a": b"1", "b": b"1", "c": b"1"}, {"later": b"1"}]

    async def test_a_bucket_that_was_purged_changes_nothing(
        self, bus: Bus, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        """Nothing of it is left, not even marks that something was deleted."""
        await bucket.put("a", b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        with capture_logs() as logs:
            await bus._jetstream.purge_stream(f"KV_{bucket.name}")
            following.mirror.resync()
            await eventually(
                lambda: any(line["event"].startswith("a bucket is suddenly") for line in logs)
            )

        assert following.values == {"a": b"1"}
        assert following.told == [{"a": b"1"}]

    async def test_a_key_whose_history_was_purged_is_gone(
        self, bus: Bus, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        """Without a mark, as an operator's tool does it; seen when all is read again."""
        await bucket.put("a", b"1")
        await bucket.put("b", b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        await bus._jetstream.purge_stream(f"KV_{bucket.name}", subject=f"$KV.{bucket.name}.a")
        following.mirror.resync()

        await eventually(lambda: following.values == {"b": b"1"})
        assert following.told[-1] == {"a": None}

    async def test_a_bucket_that_was_deleted_and_made_again_is_followed(
        self, bus: Bus, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        for n in range(10):
            await bucket.put(f"key-{n}", b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        await bus._jetstream.delete_stream(f"KV_{bucket.name}")
        again = await bus.bucket(bucket.name)
        # Its revisions count from one again, far below what the mirror has seen.
        await again.put("new", b"1")

        await eventually(lambda: following.values == {"new": b"1"})
        last = await again.put("later", b"1")
        assert await following.mirror.wait_for(last, timeout_s=5)

    async def test_while_a_bucket_is_missing_what_was_known_stays(
        self, bus: Bus, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        await bucket.put("a", b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        with capture_logs() as logs:
            await bus._jetstream.delete_stream(f"KV_{bucket.name}")
            following.mirror.resync()
            await eventually(lambda: any("can't follow" in line["event"] for line in logs))

        assert following.values == {"a": b"1"}
        assert following.told == [{"a": b"1"}]

    async def test_a_bucket_that_is_suddenly_empty_changes_nothing(
        self, bus: Bus, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        await bucket.put("a", b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()
        told = list(following.told)

        stream = f"KV_{bucket.name}"
        config = (await bus._jetstream.stream_info(stream)).config
        with capture_logs() as logs:
            await bus._jetstream.delete_stream(stream)
            await bus._jetstream.add_stream(
                api.StreamConfig(
                    name=stream,
                    subjects=config.subjects,
                    max_msgs_per_subject=1,
                    allow_rollup_hdrs=True,
                    allow_direct=True,
                    deny_delete=True,
                )
            )
            following.mirror.resync()
            await eventually(
                lambda: any(line["event"].startswith("a bucket is suddenly") for line in logs)
            )

        assert following.values == {"a": b"1"}
        assert following.told == told
        last = await bucket.put("b", b"2")
        assert await following.mirror.wait_for(last, timeout_s=5)
        assert following.values == {"a": b"1", "b": b"2"}

    async def test_a_bucket_whose_last_key_was_deleted_is_empty(
        self, bucket: Bucket, tasks: TaskGroup
    ) -> None:
        await bucket.put("a", b"1")
        following = Following(bucket, tasks)
        await following.mirror.synced.wait()

        await bucket.delete("a")
        following.mirror.resync()

        await eventually(lambda: following.values == {})
        assert following.told[-1] == {"a": None}

    async def test_a_failing_listener_is_started_over(
        self, bucket: Bucket, tasks: TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lattice.aio.tasks.RESTART_DELAY_S", 0.01)
        told: list[Changes] = []

        def fail_at_first(changes: Changes) -> None:
            told.append(changes)
            if len(told) == 1:
                raise ValueError("no")

        mirror = bucket.mirror(fail_at_first)
        tasks.guard(mirror.run, name="follow")
        await bucket.put("a", b"1")
        await eventually(lambda: told)
        last = await bucket.put("b", b"2")

        assert await mirror.wait_for(last, timeout_s=5)
        assert mirror.values == {"a": b"1", "b": b"2"}

    async def test_a_watch_lost_with_its_connection_is_soon_forgotten_by_the_server(
        self, nats: NatsServer, lattice_name: str, tasks: TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(buckets, "WATCH_FORGOTTEN_S", 0.5)
        async with connected(nats) as bus:
            bucket = await bus.bucket(lattice_name)
            following = Following(bucket, tasks)
            bus.on_reconnect(following.mirror.resync)
            await following.mirror.synced.wait()
            bus._client.abandon()
            await eventually(lambda: not bus.is_connected)
            await eventually(lambda: bus.is_connected)
            last = await bucket.put("a", b"1")
            assert await following.mirror.wait_for(last, timeout_s=5)

            async with asyncio.timeout(10):
                while len(await bus._jetstream.consumers_info(f"KV_{lattice_name}")) > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await tasks.aclose()

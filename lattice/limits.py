"""Every bound of the lattice, with its unit and its reason; relations between them are asserted.

A bound that an operator would want to move is a setting whose default stands here.
"""

KIB = 1024
MIB = 1024 * KIB

HOPS_MAX = 32
"""Length of a chain of calls: far above any design, far below what a cycle would cost."""

CALL_TIMEOUT_S = 10.0
"""Deadline of a call whose caller names none; wasmCloud's invocation timeout."""

CALL_TIMEOUT_S_MAX = 600.0
"""The longest deadline a caller may ask for; a mistyped one must not pin an instance for days."""

RETRIES_MAX = 2
"""How often the runtime repeats a call that was not executed (the delivery contract says so)."""

RETRY_DELAY_S = 0.02
"""First pause before such a repetition, doubled each time, with full jitter."""

RETRY_SHARE = 0.1
"""Such repetitions of one process, as a share of its calls: trying again must not double a load
that is too much already."""

RETRIES_PER_S = 10.0
"""Repetitions that one process may make in any case; it may have few calls."""

RETRIES_SAVED_MAX = 100.0
"""Repetitions that a process may have saved up while it needed none."""

THROTTLE_TRAPS = 10
"""Calls in a row ended by a trap or a limit until an actor is throttled: beyond bad luck."""

THROTTLE_S = 0.1
"""Bound of the first pause of a throttled actor, doubled each time, with full jitter."""

THROTTLE_S_MAX = 10.0
"""Longest such pause: whoever mends what it leans on waits no longer than a call may take."""

ENVELOPE_BYTES_MARGIN = 64 * KIB
"""Room left under the server's ``max_payload`` for an envelope's other fields and headers."""

INLINE_PAYLOAD_BYTES = 960 * KIB
"""Largest payload sent inside its envelope; larger ones go through the object store."""

PAYLOAD_BYTES_MAX = 16 * MIB
"""Largest payload of a call: a whole one is held in memory on both sides, several times over."""

PAYLOAD_TTL_S = 2 * CALL_TIMEOUT_S_MAX
"""Life of a payload in the object store: longer than any call that could still read it."""

PAYLOAD_STORE_BYTES_MAX = 1024 * MIB
"""Size of that object store: its owner may be gone before it removed what it wrote."""

STREAM_PIECE_BYTES = 128 * KIB
"""Largest piece of a body that flows in pieces: twice what a guest writes at a time."""

STREAM_WINDOW_BYTES = 256 * KIB
"""Bytes of a body that are held where they are made until somebody reads them. A body that is
complete by then travels whole, which is faster."""

STREAM_PATIENCE_S = 2.0
"""After so long its owner answers that there is no piece yet, so that silence means something."""

STREAM_GRACE_S = 2.0
"""How much later such an answer may come, and how long nobody may listen where a stream is read:
NATS needs a moment after a restart."""

STREAM_SILENCE_S = 60.0
"""A stream that nobody has asked for so long is given up: a slower reader would hold a guest."""

STREAMS_MAX = 10_000
"""Bodies that flow from one process to others at a time: each holds a piece."""

IDEMPOTENCY_KEY_CHARS_MAX = 255
"""Longest idempotency key; seven times a UUID."""

IDEMPOTENCY_TTL_S = 900.0
"""How long an idempotency key is remembered: longer than the longest call, or it would be forgotten
while it runs. An existing bucket keeps the age that it was made with."""

IDEMPOTENCY_GRACE_S = 2.0
"""After a call's deadline its outcome may still be on its way into the bucket for so long."""

IDEMPOTENCY_STORE_BYTES_MAX = 256 * MIB
"""Size of the bucket of outcomes: four thousand of the largest, and when it is full no key can be
claimed."""

IDEMPOTENT_ANSWER_BYTES = 64 * KIB
"""Largest answer remembered in that bucket; larger ones lie in the store of large payloads."""

IDEMPOTENT_CALLS_MAX = 10_000
"""Calls with keys that one process executes or has wait; they wait outside of mailboxes."""

MAILBOX_CALLS = 1_000
"""Calls that may wait for an actor whose instances are all busy; when full, ``overloaded``."""

MAILBOX_BYTES = 64 * MIB
"""Payload bytes that may wait in one mailbox: a thousand large calls must not fill the memory."""

MAILBOXES_BYTES = 512 * MIB
"""Payload bytes that may wait in all mailboxes of a host together."""

BACKLOG_CALLS = 10_000
"""Messages of one target that may wait until a process looks at them: one burst."""

BACKLOG_BYTES = 64 * MIB
"""Their size; as ``MAILBOX_BYTES``."""

CALLS_PENDING_MAX = 100_000
"""Calls one process may have in flight: each holds a future and a timer."""

CANCELLABLE_CALLS_MAX = 100_000
"""Calls from other processes that one keeps at hand to end them when their callers go away; those
beyond it end by their deadlines."""

CANCEL_TIMEOUT_S = 0.5
"""How long a caller that goes away waits for room to say so; the deadline ends its call anyway."""

INSTANCES_MAX = 10_000
"""Running instances per host; each holds a fiber of about 20 KiB and five memory mappings."""

INSTANCES_KEPT = 64
"""Of a host's instances so many, or an eighth, are kept for actors that have nothing running: one
actor must not hold them all while it waits for another."""

GUEST_MEMORY_SHARE = 0.75
"""Share of the machine's memory that all instances of a host may have together."""

ACTOR_COUNT_MAX = 100_000
"""Largest ``count`` taken from a scale request; ``wash`` says 2**32-1 for "unbounded"."""

MEMORY_BYTES = 64 * MIB
"""Memory of one instance; room for a guest with a garbage-collected runtime."""

CPU_TIME_S = 5.0
"""CPU time of one call: half the default deadline, and minutes in terms of useful work."""

MODULE_BYTES_MAX = 50 * MIB
"""Largest module accepted; wasmCloud's ``max-component-size-bytes``."""

WIT_CROSSING_MAX = 2_000_000
"""Bytes of a ``list<u8>`` that may cross a component's boundary at a time, and other values at
sixteen each: wasmtime's C API takes 32 bytes for every one on the way, and the loop waits
meanwhile. Bodies of HTTP cross in pieces, and may be larger."""

WIT_TYPES_MAX = 100_000
"""Types within the types of a component, counted wherever they occur: all of WASI has 5,000."""

RESOURCES_PER_CALL_MAX = 10_000
"""Resources of the host that one call of a component may hold at a time."""

OUTGOING_REQUESTS_PER_CALL_MAX = 100
"""HTTP requests that one call of a component may have under way at a time: each is a call of its
own."""

PROVIDER_BYTES_MAX = 256 * MIB
"""Largest provider accepted: an archive holds one program for each kind of machine."""

ARTEFACT_CACHE_BYTES = 2048 * MIB
"""What a host keeps on disk of fetched artefacts: a score of providers, hundreds of actors."""

CODE_BYTES = 512 * MIB
"""Memory of the compiled code of all actors of a host: thousands of small ones, dozens of the
largest. That of those that were called least recently is dropped, and loaded when it is needed."""

REUSE_CALLS = 1_000
"""Calls that a kept instance serves unless its actor says otherwise: what leaks, leaks so often."""

REUSE_CALLS_MAX = 100_000
"""The most that an actor may say."""

REUSE_S = 300.0
"""How long an instance is kept unless its actor says otherwise, busy or idle."""

REUSE_S_MAX = 86_400.0
"""The longest that an actor may say: a day."""

REUSE_MEMORY_BYTES = 32 * MIB
"""An instance with more memory than this is not kept: it never gives any of it back."""

REUSE_IDLE_PER_ACTOR = 32
"""Idle instances of one actor that are kept: beyond that many in parallel a start is shared out."""

REUSE_IDLE_MAX = 1_000
"""Idle instances that a host keeps; each takes a place from those that run, until one needs it."""

REUSE_IDLE_BYTES = 512 * MIB
"""Their memory, or an eighth of what all instances may have, if that is less."""

MODULES_LOADED = 4_000
"""Modules whose code is in memory: each takes a few memory mappings and an open file, so that there
are at most half as many as the process may have files open."""

RELOAD_PAUSE_S = 0.5
"""After code could not be loaded again the next attempt is so much later; calls that come meanwhile
hear the same error at once."""

COMPILE_TIMEOUT_S = 120.0
"""Compilation of the largest module takes seconds; a minute more than that is an attack."""

ERROR_TEXT_CHARS = 2_000
"""Longest text of an error that a guest or a provider composed."""

LOG_LINE_CHARS = 4_000
"""Longest log line taken from a guest; the rest is cut and counted."""

LOG_LINES_PER_CALL = 1_000
"""Log lines one call may write; the rest is dropped and counted."""

LOG_LINES_KEPT = 200
"""Lines of one actor that a host keeps for who asks later: a few screens."""

LOG_BYTES_KEPT = 8 * MIB
"""Text of all the lines that a host keeps; the actor that was silent longest loses its first."""

LOG_LINES_PER_S = 1_000
"""Lines that a host publishes to those who follow; more are dropped and counted, never queued."""

LOG_LEASE_S = 6.0
"""How long a host publishes lines for a follower that it hears no more of."""

LOG_FOLLOWERS_MAX = 100
"""Followers that a host publishes lines for; every line is matched with each of them."""

WATCH_ANSWER_BYTES = 512 * KIB
"""A host's answer to who asks for figures or recent lines; what has no room in it is counted."""

CONTROL_BYTES_MAX = 1 * MIB
"""Largest control request; NATS's own default bound, restated so that larger servers agree."""

LINKS_PER_SOURCE_MAX = 1_000
"""Links of one source: they share a key of the state bucket, whose value must stay small."""

INVENTORY_BYTES = 512 * KIB
"""Components in one part of a host's inventory: in a heartbeat, beyond which it says how many are
left out, and in one reply to our own clients, who then ask for more. Some two thousand."""

LINK_PAGE_BYTES = 512 * KIB
"""Links in one reply to our own clients, who then ask for more; stock ones take all or nothing."""

REFERENCE_CHARS = 2_000
"""Longest reference to an artefact in a control request; events and heartbeats repeat it."""

ANNOTATIONS_CHARS = 10_000
"""Annotations of one actor or provider, keys and values together; as ``REFERENCE_CHARS``."""

CONFIGS_MAX = 100
"""Configs that one actor, provider or link may name."""

INTERFACES_MAX = 100
"""Interfaces that one link may name."""

LABELS_MAX = 200
"""Labels of one host: they travel in every heartbeat."""

LABEL_CHARS_MAX = 1_000
"""Longest key or value of a label."""

REGISTRIES_MAX = 1_000
"""Registries whose credentials a host keeps."""

CONFIG_BYTES_MAX = 256 * KIB
"""Size of one named config; it is copied to every provider and actor that names it."""

MANIFEST_BYTES_MAX = 256 * KIB
"""Size of one version of an application's manifest: hundreds of parts, and it is kept for ever."""

REPLICAS_MAX = 5
"""Servers that keep a copy of a bucket: JetStream's own bound. Writes wait for most of them."""

CAS_ATTEMPTS_MAX = 500
"""Compare-and-set attempts before a writer gives up with ``conflict``: every loss means that
another writer won, so this many concurrent writers of one key are served."""

CONTROL_TIMEOUT_S = 2.0
"""How long a client waits for a control reply; the control interface's own default."""

STATE_TIMEOUT_S = 5.0
"""How long one read or write of the state buckets may take, a leader election included."""

HEARTBEAT_S = 30.0
"""Interval of ``host_heartbeat``; wadm forgets a host after 70 s without one."""

BEAT_S = 1.0
"""Interval of the small beat that finds dead hosts within seconds."""

PROVIDER_START_TIMEOUT_S = 10.0
"""From spawning a provider until it must answer its first health check."""

PROVIDER_RESTART_S = 1.0
"""First pause before a provider that ended is started again, doubled with each crash."""

PROVIDER_RESTART_S_MAX = 30.0
"""Longest such pause: whoever mends what it leans on waits no longer than for a health check."""

PROVIDER_STEADY_S = 60.0
"""A copy that answered its health checks for so long has recovered: pauses start over."""

PROVIDER_RESTARTS_MAX = 10
"""Restarts of one provider within ``PROVIDER_RESTART_WINDOW_S``; then it is given up."""

PROVIDER_RESTART_WINDOW_S = 300.0
"""A provider that ends at once uses up its restarts in less than half of it."""

PROVIDER_STOP_TIMEOUT_S = 3.0
"""From asking a provider to stop until it is killed."""

HEALTH_INTERVAL_S = 30.0
"""Between health checks of a provider, as in wasmCloud 1.x."""

HEALTH_TIMEOUT_S = 2.0
"""A health check without an answer by then has failed."""

DRAIN_TIMEOUT_S = 10.0
"""How long a stopping host waits for running calls when the request names no time."""

LINK_GRACE_S = 1.0
"""How long a provider waits for a link that its caller's host knew first."""

HTTP_BODY_BYTES = 4 * MIB
"""Largest body of an HTTP request unless its link says otherwise: a form, not a film."""

HTTP_BODY_BYTES_MAX = PAYLOAD_BYTES_MAX - MIB
"""The most of a body that is passed on whole: the payload also holds path, query and headers."""

HTTP_WHOLE_BODY_BYTES = 256 * KIB
"""A request's body up to this size is passed on whole to a component; a larger one flows in pieces,
as does one that does not say its size."""

HTTP_FLOWING_BODY_BYTES_MAX = 1024 * 1024 * MIB
"""The most a link may allow: what flows in pieces is not held anywhere, but it takes its time."""

HTTP_BODIES_BYTES_MAX = 256 * MIB
"""Request bodies one HTTP provider holds at a time, or many slow uploads would fill the memory."""

HTTP_REQUESTS_MAX = 10_000
"""Requests that may run over one HTTP link at a time unless it says otherwise."""

HTTP_CONNECTIONS_MAX = 20_000
"""Connections per listening address: each holds a parser and a socket buffer."""

HTTP_PIPELINE_MAX = 100
"""Requests that may wait on one connection for those before them; browsers send none ahead."""

HTTP_HEAD_BYTES_MAX = 64 * KIB
"""Request line and headers, give or take one read of the socket; eight times nginx's default."""

HTTP_HEAD_TIMEOUT_S = 10.0
"""From the first byte of a request until its headers are complete; slower is an attack."""

HTTP_LINGER_S = 2.0
"""How long a body is still read, and dropped, after its request was refused: closing at once
would reset the connection before the client read why."""

HTTP_STALL_S = 30.0
"""How long a client may take no byte of a response that waits for it."""

HTTP_KEEP_ALIVE_S = 30.0
"""How long an idle connection stays open for another request."""

HTTP_STOP_S = 2.0
"""How long a stopping HTTP provider lets running requests end; its host kills it soon after."""

HTTP_CLIENT_CONNECT_TIMEOUT_S = 5.0
"""From asking for a host's addresses until a connection to it is ready, TLS included."""

HTTP_CLIENT_FIRST_BYTE_TIMEOUT_S = 60.0
"""From the end of an outgoing request until its response begins; the call's deadline may be
earlier."""

HTTP_CLIENT_BETWEEN_BYTES_TIMEOUT_S = 30.0
"""How long a server may send nothing of a response, or take nothing of a request."""

HTTP_CLIENT_REQUESTS_MAX = 100
"""Outgoing requests of one link at a time, unless it says otherwise: each holds a connection."""

HTTP_CLIENT_IDLE_CONNECTIONS_MAX = 32
"""Connections that one link keeps for requests to come."""

HTTP_CLIENT_IDLE_S = 15.0
"""How long it keeps them; longer than a burst pauses, shorter than servers wait."""

HTTP_CLIENT_CONNECTION_AGE_S = 300.0
"""A connection that is older is not used again: its host's name may mean another address by now."""

HTTP_CLIENT_CONNECTIONS_MAX = 4_000
"""Connections of one HTTP client provider: each is an open file of a process that may be a host."""

HTTP_CLIENT_REDIRECTS_MAX = 10
"""Redirects followed for one request of ``wasmcloud:httpclient`` unless its link says otherwise."""

HTTP_CLIENT_BODIES_BYTES_MAX = 256 * MIB
"""Bodies that one HTTP client provider holds at a time, of requests and responses."""

HTTP_CLIENT_PATH_BYTES_MAX = 16 * KIB
"""Longest path with query of an outgoing request: twice what most servers take."""

HTTP_CLIENT_ADDRESSES_MAX = 8
"""Addresses of one host that are tried; a name that has more of them is served by any of these."""

HTTP_CLIENT_LOOKUPS_MAX = 16
"""Threads that one HTTP client provider has to look names up: the system's own resolver blocks."""

HTTP_CLIENT_INTERIM_MAX = 16
"""Interim responses (``103 Early Hints``) before the response proper: beyond that it is a game."""

assert INLINE_PAYLOAD_BYTES + ENVELOPE_BYTES_MARGIN <= MIB, "an envelope must fit NATS's default"
assert CALL_TIMEOUT_S < CALL_TIMEOUT_S_MAX < PAYLOAD_TTL_S
assert CALL_TIMEOUT_S_MAX + IDEMPOTENCY_GRACE_S < IDEMPOTENCY_TTL_S < PAYLOAD_TTL_S
assert STREAM_PATIENCE_S + STREAM_GRACE_S < STREAM_SILENCE_S
assert STREAM_PIECE_BYTES <= STREAM_WINDOW_BYTES <= INLINE_PAYLOAD_BYTES
assert CPU_TIME_S <= CALL_TIMEOUT_S
assert HTTP_BODY_BYTES <= HTTP_BODY_BYTES_MAX
assert MODULE_BYTES_MAX <= PROVIDER_BYTES_MAX < ARTEFACT_CACHE_BYTES
assert HTTP_CLIENT_IDLE_S < HTTP_CLIENT_CONNECTION_AGE_S
assert HTTP_STOP_S < PROVIDER_STOP_TIMEOUT_S

"""What a component can import from the host itself, and the exports called in their own way."""

from host.engine import (
    spin,
    wasi_blobstore,
    wasi_config,
    wasi_keyvalue,
    wasip2,
    wasip2_filesystem,
    wasip2_http,
    wasip2_http_outgoing,
    wasip2_http_relay,
    wasmcloud_messaging,
)
from host.engine.component import Entry, Functions

_FAMILIES = (
    wasip2,
    wasip2_filesystem,
    wasip2_http,
    wasip2_http_outgoing,
    wasip2_http_relay,
    wasi_keyvalue,
    wasi_blobstore,
    wasi_config,
    wasmcloud_messaging,
    spin,
)

FUNCTIONS: Functions = {
    interface: {
        name: function
        for family in _FAMILIES
        for name, function in family.TABLE.functions.get(interface, {}).items()
    }
    for interface in sorted({name for family in _FAMILIES for name in family.TABLE.functions})
}
"""By interface without version, then by name."""

ENTRIES: dict[tuple[str, str], tuple[type[Entry], ...]] = {
    ("wasi:http/incoming-handler", "handle"): (
        wasip2_http.IncomingHandler,
        wasip2_http.LinkedHandler,
    ),
    ("wasi:http/outgoing-handler", "handle"): (wasip2_http_relay.OutgoingHandler,),
    ("wasmcloud:messaging/incoming-handler", "handle"): (wasmcloud_messaging.IncomingHandler,),
    ("wasi:keyvalue/watcher", "on-set"): (wasi_keyvalue.Watching,),
    ("wasi:keyvalue/watcher", "on-delete"): (wasi_keyvalue.Watching,),
}
"""Interface without version and function, and how they are called."""

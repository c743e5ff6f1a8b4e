"""What a component can import from the host itself, and the exports called in their own way."""

from host.engine import wasi_config, wasi_keyvalue, wasip2, wasip2_http
from host.engine.component import Entry, Functions

FUNCTIONS: Functions = {
    interface: functions
    for family in (wasip2, wasip2_http, wasi_keyvalue, wasi_config)
    for interface, functions in family.TABLE.functions.items()
}
"""By interface without version, then by name."""

ENTRIES: dict[tuple[str, str], type[Entry]] = {
    ("wasi:http/incoming-handler", "handle"): wasip2_http.IncomingHandler,
}
"""Interface without version and function, and how they are called."""

"""``wasi:http/types.error-code``: its cases, and what the lattice's errors are among them."""

from host.engine import wit
from lattice import errors, limits
from lattice.wire import http

_TEXT, _U8, _U16, _U32, _U64 = (
    wit.Option(wit.Primitive(name)) for name in ("string", "u8", "u16", "u32", "u64")
)
_FIELD_SIZE = wit.Record((("field-name", _TEXT), ("field-size", _U32)))

ERROR_CODE = wit.Variant(
    (
        ("DNS-timeout", None),
        ("DNS-error", wit.Record((("rcode", _TEXT), ("info-code", _U16)))),
        ("destination-not-found", None),
        ("destination-unavailable", None),
        ("destination-IP-prohibited", None),
        ("destination-IP-unroutable", None),
        ("connection-refused", None),
        ("connection-terminated", None),
        ("connection-timeout", None),
        ("connection-read-timeout", None),
        ("connection-write-timeout", None),
        ("connection-limit-reached", None),
        ("TLS-protocol-error", None),
        ("TLS-certificate-error", None),
        ("TLS-alert-received", wit.Record((("alert-id", _U8), ("alert-message", _TEXT)))),
        ("HTTP-request-denied", None),
        ("HTTP-request-length-required", None),
        ("HTTP-request-body-size", _U64),
        ("HTTP-request-method-invalid", None),
        ("HTTP-request-URI-invalid", None),
        ("HTTP-request-URI-too-long", None),
        ("HTTP-request-header-section-size", _U32),
        ("HTTP-request-header-size", wit.Option(_FIELD_SIZE)),
        ("HTTP-request-trailer-section-size", _U32),
        ("HTTP-request-trailer-size", _FIELD_SIZE),
        ("HTTP-response-incomplete", None),
        ("HTTP-response-header-section-size", _U32),
        ("HTTP-response-header-size", _FIELD_SIZE),
        ("HTTP-response-body-size", _U64),
        ("HTTP-response-trailer-section-size", _U32),
        ("HTTP-response-trailer-size", _FIELD_SIZE),
        ("HTTP-response-transfer-coding", _TEXT),
        ("HTTP-response-content-coding", _TEXT),
        ("HTTP-response-timeout", None),
        ("HTTP-upgrade-failed", None),
        ("HTTP-protocol-error", None),
        ("loop-detected", None),
        ("configuration-error", None),
        ("internal-error", _TEXT),
    )
)
"""``wasi:http/types.error-code``."""

check_error_code = wit.checker(ERROR_CODE)


def error_code(error: errors.LatticeError, interface: str = "outgoing-handler") -> http.ErrorCode:
    """What the lattice says, in the words of ``wasi:http``, of a call over that interface."""
    match error:
        case errors.Denied():
            return {"HTTP-request-denied": None}
        case errors.DeadlineExceeded() | errors.Expired():
            return {"HTTP-response-timeout": None}
        case errors.PayloadTooLarge():
            return {"HTTP-request-body-size": None}
        case errors.Overloaded():
            return {"connection-limit-reached": None}
        case errors.NotRunning() | errors.Draining() | errors.Unavailable():
            return {"destination-unavailable": None}
        case errors.HopLimit():
            return {"loop-detected": None}
        case errors.NoLink():
            return internal(f"{error.code}: {error.text} --interface {interface}")
        case _:
            return internal(f"{error.code}: {error.text}")


def in_words(code: http.ErrorCode) -> str:
    """An error code as a line of a log has it."""
    ((case, detail),) = code.items()
    said = case if detail is None else f"{case}: {detail}"
    return said[: limits.ERROR_TEXT_CHARS]


def internal(text: str) -> http.ErrorCode:
    return {"internal-error": text[: limits.ERROR_TEXT_CHARS]}

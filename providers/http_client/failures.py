"""Every way in which a request gets no response: one list, for both faces of the provider.

``wasi:http`` names the cases. A caller over ``wasmcloud:httpclient`` gets an error of the lattice
with the case in its detail.
"""

from collections.abc import Mapping
from typing import Any

from lattice import errors
from lattice.errors import LatticeError

ERRORS: Mapping[str, type[LatticeError]] = {
    "DNS-timeout": errors.Unavailable,
    "DNS-error": errors.Unavailable,
    "destination-unavailable": errors.Unavailable,
    "destination-IP-prohibited": errors.Denied,
    "destination-IP-unroutable": errors.Unavailable,
    "connection-refused": errors.Unavailable,
    "connection-terminated": errors.Unavailable,
    "connection-timeout": errors.Unavailable,
    "connection-read-timeout": errors.Unavailable,
    "connection-write-timeout": errors.Unavailable,
    "connection-limit-reached": errors.Overloaded,
    "TLS-protocol-error": errors.ProviderError,
    "TLS-certificate-error": errors.ProviderError,
    "TLS-alert-received": errors.ProviderError,
    "HTTP-request-denied": errors.Denied,
    "HTTP-request-body-size": errors.PayloadTooLarge,
    "HTTP-request-method-invalid": errors.InvalidRequest,
    "HTTP-request-URI-invalid": errors.InvalidRequest,
    "HTTP-request-URI-too-long": errors.PayloadTooLarge,
    "HTTP-request-header-section-size": errors.PayloadTooLarge,
    "HTTP-request-header-size": errors.InvalidRequest,
    "HTTP-request-trailer-section-size": errors.PayloadTooLarge,
    "HTTP-request-trailer-size": errors.InvalidRequest,
    "HTTP-response-incomplete": errors.ProviderError,
    "HTTP-response-header-section-size": errors.ProviderError,
    "HTTP-response-body-size": errors.ProviderError,
    "HTTP-response-timeout": errors.Unavailable,
    "HTTP-protocol-error": errors.ProviderError,
    "loop-detected": errors.ProviderError,
    "internal-error": errors.ProviderError,
}
"""The cases of ``wasi:http/types.error-code`` that happen here, and the lattice's errors."""


class Failure(Exception):
    """A request without a response.

    ``case`` is one of ``ERRORS``, ``payload`` what that case carries; the text is for people.
    """

    def __init__(self, case: str, text: str, payload: Any = None) -> None:
        assert case in ERRORS
        super().__init__(text)
        self.case = case
        self.text = text
        self.payload = payload
        self.is_after_redirect = False
        """Whether another server has executed the request before, and sent the client on."""

    @property
    def error_code(self) -> dict[str, Any]:
        """As ``wasi:http`` has it: the case to its payload."""
        return {self.case: self.payload}

    @property
    def error(self) -> LatticeError:
        """As the lattice has it: only what had no effect anywhere counts as not executed."""
        cls, text = ERRORS[self.case], self.text
        if self.is_after_redirect:
            cls, text = errors.ProviderError, f"after a redirect: {text}"
        return cls.from_parts(text, detail={"case": self.case})

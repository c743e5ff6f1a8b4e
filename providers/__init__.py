"""Capability providers: what actors may be linked to. One folder each, all on ``providers.sdk``."""

# Before anything imports structlog.
from lattice import log as log

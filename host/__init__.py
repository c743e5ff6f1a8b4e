"""One machine's worth of actors: it loads, runs, meters and supervises them, and answers for them.

A host never imports a provider: one that runs inside the host is found by entry point.
"""

# Before anything imports structlog.
from lattice import log as log

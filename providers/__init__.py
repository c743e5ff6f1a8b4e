"""Capability providers: what actors may be linked to. One folder each, all on ``providers.sdk``."""

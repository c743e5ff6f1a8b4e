"""The faults: how each is injected and ended, and for how long it may be felt. See ``table``."""

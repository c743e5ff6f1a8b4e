"""Artefacts in OCI registries: references, credentials, and a client that pulls and pushes.

Only ``client`` loads an HTTP library; the rest is cheap to import.
"""

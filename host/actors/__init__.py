"""Actors on this host: admission, execution, and which ones there are."""

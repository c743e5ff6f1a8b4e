"""Who is who: nkeys (Ed25519, in NATS's encoding)."""

"""What the lattice remembers: links and configs, in JetStream key-value buckets.

Written by compare-and-set, read from a mirror; a host that loses NATS goes on with what it knew.
"""

"""The ``lattice`` command: commands and arguments as wasmCloud's ``wash`` has them.

Each command is thin: its arguments are read, one asynchronous function does the work, and
``output`` prints what came of it. What may be decided without the network is a function of values.
"""

"""What every process of a lattice shares, and the control plane.

Nothing here runs WebAssembly (that is ``host``) or provides a capability (that is ``providers``).
"""

__version__ = "0.1.0"

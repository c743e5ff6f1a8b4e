"""The control plane's client side: everything a command line or a reconciler may ask of hosts."""

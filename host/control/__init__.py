"""The control plane's server side: wasmCloud 1.x's control interface, answered by every host."""

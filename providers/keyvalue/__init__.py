"""The key-value capability: bytes, numbers, lists and sets by key.

It has two faces on the same data: ``contract`` speaks ``wasmcloud:keyvalue`` and ``wasi`` speaks
``wasi:keyvalue``. Neither knows a backend; each backend in ``stores`` keeps data and knows no wire;
``settings`` reads what an operator wrote; ``provider`` joins them, link by link.
"""

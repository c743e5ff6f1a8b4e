"""The key-value capability, contract ``wasmcloud:keyvalue``: text, numbers, lists and sets by key.

``contract`` speaks the wire and knows no backend; each backend in ``stores`` keeps data and knows
no wire; ``settings`` reads what an operator wrote; ``provider`` joins them, link by link.
"""

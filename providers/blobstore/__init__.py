"""The blob capability: objects of any size by name, in containers, for linked actors.

``wasi`` and ``wasmcloud`` are its two faces: they speak a contract each, and know no backend;
``blobs`` is what both do, for one link, within ``bounds``; ``uploads`` and ``downloads`` move what
is larger than a message; each backend in ``stores`` keeps data and knows no wire; ``settings``
reads what an operator wrote; ``provider`` joins them, link by link.
"""

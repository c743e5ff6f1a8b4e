"""The HTTP client capability: actors reach what an operator allowed them to reach, and no more.

``rules`` is the grammar of that allowance, ``addresses`` says which addresses are not public,
``targets`` reads hosts and URLs, ``messages`` what may be sent; all of it is pure. ``connection``
speaks HTTP/1.1 to one address, ``pool`` keeps connections, ``resolver`` asks for addresses, and
``client`` sends one link's requests with them. ``contract`` (``wasmcloud:httpclient``) and
``outgoing_handler`` (``wasi:http``) are the two faces of it, and ``provider`` joins all that, link
by link.
"""

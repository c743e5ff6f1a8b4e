"""HTTP in front of actors: requests become calls to ``HttpServer.HandleRequest``.

``listener`` speaks HTTP, ``application`` turns one request into one call, ``routing`` decides which
link it belongs to, ``settings`` reads what the operator wrote, ``provider`` ties them together.
"""

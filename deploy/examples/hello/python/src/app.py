"""hello-python: answers every request with a greeting.

GET / answers "Hello, world!", GET /ada answers "Hello, ada!".
"""

from web import Handler, Request, Response


class IncomingHandler(Handler):
    def answer(self, request: Request) -> Response:
        name = request.path.removeprefix("/") or "world"
        return Response.text(f"Hello, {name}!\n")

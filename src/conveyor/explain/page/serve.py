"""Serves the page over HTTP on this machine only, and lets it search the whole text of the run."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from conveyor.errors import BadInput
from conveyor.explain.page.corpus import Corpus
from conveyor.language.trained import Trained

HOSTS = ("127.0.0.1", "localhost")  # IPv4 only, as `listen` binds
LARGEST = 1 << 18  # the most bytes of a query
PATIENCE = 2  # seconds for pending answers when the server shuts down
MISSING = "--serve needs the extra packages: pip install 'conveyor[page]'; a page in a file needs none of them"
EVERYWHERE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
)
# The page has its own content policy, and must not be framed. Answers are data, in which nothing may run.
OF_THE_PAGE = (b"content-security-policy", b"frame-ancestors 'none'")
OF_DATA = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


def serve(document: str, runs: Sequence[Trained], listening: socket.socket) -> None:
    """Serves a page until Ctrl-C, and prints its address.

        with listen(8000) as listening:
            serve(page([run], served=True), [run], listening)       # http://127.0.0.1:8000/

    Raises BadInput if packages are missing.
    """
    application = app(document, runs)
    import uvicorn

    print(f"http://127.0.0.1:{listening.getsockname()[1]}/ shows the page; Ctrl-C ends it", flush=True)
    config = uvicorn.Config(
        application,
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=PATIENCE,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    print("ended", flush=True)


def listen(port: int) -> socket.socket:
    """A socket that listens on loopback only. `port` 0: any free one. Raises BadInput if it is taken or not allowed."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed can be reused
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise BadInput(f"--port {port}: {_why(error)}; take another, or --port 0 for one that is free") from None
    return listening


def _why(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return "ports are 0 to 65535"
    told = {errno.EADDRINUSE: "the port is in use", errno.EACCES: "you may not use this port"}
    return told.get(getattr(error, "errno", 0) or 0, str(error))


def app(document: str, runs: Sequence[Trained]) -> Any:
    """The ASGI application: the page, slices of the text, and the search. It serves no files."""
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, JSONResponse
        from starlette.routing import Route
    except ImportError as error:
        raise BadInput(MISSING) from error
    corpora = [Corpus(run) for run in runs]

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(document)

    async def answer(request: Request) -> JSONResponse:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"error": "a query must be JSON"}, 415)
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST:
                return JSONResponse({"error": f"a query has at most {LARGEST} bytes"}, 413)
        question = {"slice": Corpus.slice, "similar": Corpus.similar}[request.url.path.rpartition("/")[2]]
        try:
            return JSONResponse(await run_in_threadpool(asked, corpora, question, bytes(body)))
        except BadInput as error:
            return JSONResponse({"error": str(error)}, 400)

    posts = [Route(f"/api/{name}", answer, methods=["POST"]) for name in ("slice", "similar")]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)
    return Starlette(routes=[Route("/", page), *posts], middleware=[Middleware(Guard), hosts])


def asked(corpora: Sequence[Corpus], question: Any, body: bytes) -> Any:
    """The answer of a corpus to a query. Raises BadInput for an invalid query."""
    import json

    try:
        given = json.loads(body)
        which = given.pop("network", 0)
        corpus = corpora[which if type(which) is int and which >= 0 else len(corpora)]
        return question(corpus, **given)
    except (ValueError, RecursionError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput("the query is not one of this page: load the page again") from error


class Guard:
    """Middleware that refuses requests of other origins and adds security headers to every answer."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # no websockets
            return
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        is_data = scope["path"] != "/"

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *EVERYWHERE, OF_DATA if is_data else OF_THE_PAGE]
            await send(message)

        if self.is_foreign(named, is_data):
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("requests from other origins are refused", 403)(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    @staticmethod
    def is_foreign(headers: dict[str, str], is_data: bool) -> bool:
        """Whether a request comes from another origin. Following a link to the page is allowed."""
        own = f"http://{headers.get('host', '')}"
        if headers.get("origin", own) != own:
            return True
        return is_data and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")

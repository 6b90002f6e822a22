"""The preview page over HTTP: answers plain requests on the WebSocket's port with the files of runtime/page."""

import http
import importlib.resources
import re
from functools import cache
from urllib.parse import quote

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from kff_live.protocols import keyframe_text
from kff_live.protocols.channels import EYE_RADIANS, LIVELINK
from kff_live.protocols.easing import DEFAULT_EASING, EASINGS

_SCRIPT, _JSON = "text/javascript; charset=utf-8", "application/json"
_TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
_TYPES |= {"js": _SCRIPT, "json": _JSON}

FILES = (
    "index.html", "style.css", "icon.svg", "face.json",
    "app.js", "board.js", "curves.js", "dom.js", "face.js", "link.js", "text.js", "timeline.js",
)  # fmt: skip
"""What is served from the folder `page`; index.html is also `/`."""

VOCABULARY = "vocabulary.json"
"""The words of keyframe text, made from `protocols.keyframe_text`."""

_OWN_NAME = re.compile(rb'"\./(' + "|".join(map(re.escape, FILES)).encode() + rb')"')
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


def is_page_request(request: Request) -> bool:
    """Whether a request wants a page and not a WebSocket."""
    return "websocket" not in request.headers.get("Upgrade", "").lower()


def answer(request: Request, *, token: str = "") -> Response:
    """The answer to a plain HTTP request that may be answered.

    `token` is what the page must show again for whatever else it loads; it is written behind the names of the files.
    """
    method = getattr(request, "method", "GET")  # before websockets 16 nothing but GET arrives here
    if method not in ("GET", "HEAD"):
        return _response(http.HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", "text/plain", request)
    name = request.path.partition("?")[0].removeprefix("/") or "index.html"
    if name == VOCABULARY:
        body = _vocabulary()
    elif name in FILES:
        body = _file(name)
        if token:
            body = _OWN_NAME.sub(rb'"./\1?token=' + quote(token, safe="").encode() + b'"', body)
    else:
        return _response(http.HTTPStatus.NOT_FOUND, b"there is no such page\n", "text/plain", request)
    return _response(http.HTTPStatus.OK, body, _TYPES[name.rpartition(".")[2]], request)


@cache
def _file(name: str) -> bytes:
    return importlib.resources.files("kff_live.runtime").joinpath("page", name).read_bytes()


@cache
def _vocabulary() -> bytes:
    words = [
        {
            "word": name.word,
            "left": LIVELINK[name.left],
            "right": None if name.right is None else LIVELINK[name.right],
            "signed": name.signed,
        }
        for name in keyframe_text.NAMES
    ]
    return msgspec.json.encode(
        {"words": words, "easings": EASINGS, "default_easing": DEFAULT_EASING, "eye_radians": EYE_RADIANS}
    )


def _response(status: http.HTTPStatus, body: bytes, kind: str, request: Request) -> Response:
    host = request.headers.get("Host", "")
    # Not every browser counts the page's own WebSocket as 'self'.
    sockets = f" ws://{host} wss://{host}" if _PLAIN_HOST.fullmatch(host) else ""
    policy = f"default-src 'self'; connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; "
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy + "frame-ancestors 'none'; object-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Connection": "close",
        }
    )
    if status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET, HEAD"
    head_only = getattr(request, "method", "GET") == "HEAD"
    return Response(status.value, status.phrase, headers, b"" if head_only else body)

"""The page's files over HTTP: types, headers, what is not served, the token that goes along."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from kff_live.protocols.keyframe_text import NAMES
from kff_live.runtime import page_server

PAGE = Path(__file__).parents[2] / "runtime" / "page"


def request(path: str, method: str = "GET", **headers: str) -> Request:
    made = Request(path, Headers({"Host": "127.0.0.1:8765", **headers}))
    made.method = method
    return made


def get(path: str, *, token: str = "") -> Response:
    return page_server.answer(request(path), token=token)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/?token=x", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/face.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/face.json", "application/json"),
        ("/vocabulary.json", "application/json"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_a_file_has_its_type_and_strict_headers(path: str, kind: str) -> None:
    response = get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == kind
    assert response.headers["Content-Length"] == str(len(response.body))
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; connect-src 'self' ws://127.0.0.1:8765 wss://127.0.0.1:8765;")
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/nothing", "/../config.py", "/page/app.js", "/%2e%2e/app.py", "//app.js", "/APP.JS"])
def test_nothing_else_is_served(path: str) -> None:
    assert get(path).status_code == 404


def test_head_has_no_body_and_other_methods_are_refused() -> None:
    head = page_server.answer(request("/", "HEAD"))
    assert (head.status_code, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str((PAGE / "index.html").stat().st_size)
    post = page_server.answer(request("/", "POST"))
    assert (post.status_code, post.headers["Allow"]) == (405, "GET, HEAD")


def test_a_strange_host_does_not_reach_the_policy() -> None:
    asked = Request("/", Headers({"Host": "a; script-src *"}))
    assert "script-src" not in page_server.answer(asked).headers["Content-Security-Policy"]


def test_the_token_goes_along_to_every_file_of_the_page() -> None:
    seen = b"".join(get(f"/{name}", token='a b&"').body for name in page_server.FILES)
    names = re.findall(rb'"\./([a-z.]+)(\?[^"]*)?"', seen)
    assert {name for name, _ in names} >= {b"app.js", b"style.css", b"face.js", b"icon.svg", b"timeline.js"}
    assert {query for _, query in names} == {b"?token=a%20b%26%22"}


def test_all_files_of_the_folder_are_served_and_nothing_is_loaded_from_elsewhere() -> None:
    assert {path.name for path in PAGE.iterdir()} == set(page_server.FILES)
    for path in PAGE.iterdir():
        addresses = re.findall(r"https?://[^\"'\s>]+", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path.name  # a name, which nothing fetches
        assert "innerHTML" not in path.read_text(encoding="utf-8")


def test_the_wheel_will_have_the_page() -> None:
    project = tomllib.loads((PAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["kff_live.runtime"]
    assert all(any(path.match(pattern) for pattern in patterns) for path in PAGE.iterdir())


def test_the_vocabulary_is_that_of_keyframe_text() -> None:
    words = json.loads(get("/vocabulary.json").body)["words"]
    assert [word["word"] for word in words] == [name.word for name in NAMES]
    assert words[0] == {"word": "blink", "left": "EyeBlinkLeft", "right": "EyeBlinkRight", "signed": False}


def test_a_websocket_is_not_a_page() -> None:
    assert not page_server.is_page_request(request("/", Upgrade="websocket"))
    assert page_server.is_page_request(request("/"))

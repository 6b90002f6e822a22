"""The preview page in a real browser, on a spawned runtime whose answers are scripted."""

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from websockets.sync.client import connect

from kff_live.protocols.channels import CHANNELS, INDEX, LIVELINK
from kff_live.protocols.keyframe_text import parse_file
from kff_live.protocols.keyframes import as_acted
from kff_live.runtime.drawing import draw
from tests.runtime.spawned import end

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

DEADLINE = 30.0
SENTENCE = "I got the job!"
ANSWER = (
    "glad surprise: 2 wide7 jaw4 browinner6 browouter6\n"
    "bright joy: 3+12 squint4 smile9 cheek7 jaw2 upperlip3\n"
    "soft smile: 8+4 sine lookleft4 smile4 cheek2\n"
)
RUNTIME = """
import sys
from kff_live.runtime import app
from kff_live.runtime.config import load
from kff_live.runtime.model.generator import ScriptedGenerator
app.generator = lambda *_, **__: ScriptedGenerator({sys.argv[2]: sys.argv[3]})
app.run(*load(sys.argv[1]))
"""
CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def running(port: int, folder: Path, *, token: str = "", idle: bool = False, extra: str = "") -> Iterator[str]:
    """A runtime on a port, without idle life unless asked for; yields the page's address once all is loaded."""
    config = folder / "config.toml"
    config.write_text(
        f"sinks = []\n[websocket]\nport = {port}\ntoken = '{token}'\n"
        f"[osc_in]\nenabled = false\n[idle]\nenabled = {str(idle).lower()}\n{extra}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", RUNTIME, str(config), SENTENCE, ANSWER],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    stderr, log, loaded = process.stderr, list[str](), threading.Event()

    def read() -> None:
        for line in stderr:
            log.append(line)
            if "late at worst" in line:  # the status line, once everything is loaded
                loaded.set()
        loaded.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert loaded.wait(DEADLINE)
        assert process.poll() is None, log
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)
        reader.join()
        stderr.close()


@pytest.fixture(scope="module")
def address(module_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(module_port, tmp_path_factory.mktemp("page")) as url:
        yield url


@pytest.fixture(scope="module")
def browser(require: Callable[[str], ModuleType], chromium_path: str) -> Iterator["Browser"]:
    with require("playwright.sync_api").sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM)
        yield launched
        launched.close()


def expect(locator: "Locator") -> Any:
    """Playwright's own, which is imported only where it is installed."""
    from playwright.sync_api import expect as really_expect

    really_expect.set_options(timeout=1000 * DEADLINE)
    return really_expect(locator)


@dataclass
class Watch:
    """What a page said on its console and asked for over the network."""

    messages: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def attach(self, page: "Page") -> None:
        def console(message: "ConsoleMessage") -> None:
            if message.type in ("error", "warning"):
                self.messages.append(message.text)

        page.on("console", console)
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", lambda request: self.addresses.append(request.url))
        page.on("websocket", lambda socket: self.addresses.append(socket.url))


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    """The page, connected and acting nothing; it may say nothing on the console and leave its origin for nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened, watch = context.new_page(), Watch()
    watch.attach(opened)
    opened.set_default_timeout(1000 * DEADLINE)
    opened.goto(address)
    ready(opened)
    yield opened
    with Frames(address) as frames:
        frames.send({"type": "stop"})
    context.close()
    assert watch.messages == []
    origin = address.partition("//")[2]
    assert watch.addresses
    assert all(url.partition("//")[2].startswith(f"{origin}/") for url in watch.addresses)


def ready(page: "Page") -> None:
    expect(page.locator("#connection")).to_have_text("connected")
    expect(page.locator("#model")).to_have_text("ready")
    page.wait_for_function("() => document.getElementById('face').dataset.frame")


class Frames:
    """A second client of the runtime, to see what the page made it do."""

    def __init__(self, address: str) -> None:
        self._opening = connect(address.replace("http", "ws", 1), compression=None)

    def __enter__(self) -> "Frames":
        self._connection = self._opening.__enter__()
        self.send({"type": "subscribe", "frames": True, "events": "all"})
        return self

    def __exit__(self, *details: Any) -> None:
        self._opening.__exit__(*details)

    def send(self, message: dict[str, Any]) -> None:
        self._connection.send(json.dumps(message))

    def wait(self, kind: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message of a kind for which a condition holds."""
        for _ in range(int(60 * DEADLINE)):
            message: dict[str, Any] = json.loads(self._connection.recv(timeout=DEADLINE))
            if message["type"] == kind and condition(message):
                return message
        raise AssertionError(f"no such {kind}")

    def until(self, channel: str, low: float, high: float) -> None:
        """Wait until a channel's value lies in a range."""
        self.wait("frame", lambda frame: low <= frame["values"][INDEX[channel]] <= high)


def shown(page: "Page") -> NDArray[np.int16]:
    """The pixels of the live face."""
    url = page.evaluate("document.getElementById('face').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"), np.int16)


# --- the drawing, on the page's own canvas code

DRAW = """
async ([poses, size, theme]) => {
  const { drawFace, readFace } = await import("./face.js");
  const face = readFace(await (await fetch("./face.json")).json());
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  canvas.getContext("2d", { willReadFrequently: true });
  let binary = "";
  for (const pose of poses) {
    drawFace(canvas, face, pose, theme);
    const { data } = canvas.getContext("2d").getImageData(0, 0, size, size);
    for (let i = 0; i < data.length; i += 8192) binary += String.fromCharCode(...data.subarray(i, i + 8192));
  }
  return btoa(binary);
}
"""


def drawn(page: "Page", poses: list[dict[str, float]], *, size: int = 160, theme: str = "light") -> NDArray[np.int16]:
    """Poses as the page's canvas shows them: [n, size, size, 3]."""
    data = base64.b64decode(page.evaluate(DRAW, [poses, size, theme]))
    return np.frombuffer(data, np.uint8).reshape(len(poses), size, size, 4)[..., :3].astype(np.int16)


def test_each_of_the_61_channels_differs_from_neutral_and_from_every_other(page: "Page") -> None:
    pictures = drawn(page, [{}, *({name: 1.0} for name in LIVELINK)])
    names = ["neutral", *LIVELINK]
    alike = [
        (names[i], names[i + 1 + j])
        for i in range(len(names))
        for j, seen in enumerate((np.abs(pictures[i + 1 :] - pictures[i]).max(axis=3) > 24).sum(axis=(1, 2)))
        if seen < 12
    ]
    assert alike == []


def test_left_and_right_partners_mirror_each_other_and_the_faces_left_is_the_viewers_right(page: "Page") -> None:
    pairs = [(c.name, c.partner) for c in CHANNELS if c.partner and "Left" in c.name]
    signs = [-1.0 if left.endswith(("Yaw", "Roll")) else 1.0 for left, _ in pairs]
    size = 160
    lefts = drawn(page, [{left: 1.0} for left, _ in pairs], size=size)
    rights = drawn(page, [{right: sign} for (_, right), sign in zip(pairs, signs, strict=True)], size=size)
    rest = drawn(page, [{}], size=size)[0]
    assert len(pairs) == 23
    for (left, _), a, b in zip(pairs, lefts, rights, strict=True):
        assert np.abs(a - b[:, ::-1]).mean() < 0.1, left
        columns = (np.abs(a - rest).max(axis=2) > 24).sum(axis=0)
        assert columns[size // 2 :].sum() > columns[: size // 2].sum(), left
    blink = np.abs(lefts[0] - rest).max(axis=(0, 2))
    assert pairs[0][0] == "EyeBlinkLeft"
    assert blink[: size // 2].max() == 0 < blink[size // 2 :].max()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_and_pictures_agree(page: "Page", theme: str) -> None:
    lines = [
        "0 smile0",
        "0 smile9 jaw3 cheek7",
        "0 browdown9 sneer6",
        "0 blinkL10 tongue10",
        "0 yaw4 pitch3 roll-3 jaw8",
    ]
    poses = [as_acted(k).pose for k in parse_file("# kff 1\n" + "\n".join(lines) + "\n")]
    canvas = drawn(page, [dict(zip(LIVELINK, pose.tolist(), strict=True)) for pose in poses], size=256, theme=theme)
    for line, a, pose in zip(lines, canvas, poses, strict=True):
        b = np.asarray(draw(pose, size=256, theme="dark" if theme == "dark" else "light"), np.int16)
        difference = np.abs(a - b).astype(float)
        assert difference.mean() < 1.2, line
        assert difference.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3, 4)).max() < 12, line


# --- the page at work


def test_typing_a_sentence_moves_the_face(page: "Page", tmp_path: Path) -> None:
    before = shown(page)
    page.locator("#text").fill(SENTENCE)
    page.locator("#text").press("Enter")
    expect(page.locator("#keyframes > li")).to_have_count(3)
    expect(page.locator("#acting")).to_have_text("bright joy")
    page.wait_for_function(
        "() => document.querySelector('#keyframes > li.current [aria-label^=label]').value == 'bright joy'"
    )
    with Frames(page.url.rstrip("/")) as frames:
        frames.until("MouthSmileLeft", 0.85, 1.0)
    folder = Path(os.environ.get("KFF_TEST_PICTURES", tmp_path))
    page.screenshot(path=folder / "page.png", full_page=True)
    after = shown(page)
    assert (np.abs(after - before).max(axis=2) > 60).mean() > 0.01
    assert (folder / "page.png").stat().st_size > 50_000
    expect(page.locator("#latency")).to_contain_text("ms")
    expect(page.locator("#fps")).to_contain_text("fps")
    expect(page.locator("#late")).to_contain_text("ms")
    expect(page.locator("#legend li").first).to_be_visible()
    expect(page.locator("#log")).to_contain_text("bright joy: 3+12")
    expect(page.locator("#log")).to_contain_text("done")
    assert page.locator("#text").input_value() == ""


def test_an_edited_level_is_played_and_copied(page: "Page") -> None:
    page.locator("#text").fill(SENTENCE)
    page.get_by_role("button", name="Send").click()
    cards = page.locator("#keyframes > li")
    expect(cards).to_have_count(3)
    page.get_by_role("button", name="Stop").click()
    cards.nth(1).get_by_label("jaw, level").fill("9.5")
    cards.nth(1).get_by_label("hold").fill("3")
    cards.nth(2).get_by_label("label of keyframe 3").fill("wink: # it")
    cards.nth(2).get_by_label("add a channel").select_option("blink L")
    cards.nth(2).get_by_label("remove cheek").click()
    cards.nth(2).get_by_label("easing").select_option("backout")
    page.get_by_label("remove keyframe 1").click()
    expect(cards).to_have_count(2)
    page.get_by_role("button", name="Play again").click()
    with Frames(page.url.rstrip("/")) as frames:
        frames.until("JawOpen", 0.94, 0.96)
        frames.until("EyeBlinkLeft", 0.49, 0.51)
    page.get_by_role("button", name="Copy as text").click()
    lines = page.locator("#copy-out").input_value().splitlines()
    assert lines == [
        "# kff 1",
        "bright joy: 3+30 squint4 jaw9.5 smile9 upperlip3 cheek7",
        "wink # it: 8+4 backout blinkL5 lookleft4 smile4",
    ]
    assert parse_file("\n".join(lines) + "\n")[1].pose[INDEX["EyeBlinkLeft"]] == pytest.approx(0.5)
    page.get_by_role("button", name="Copy as JSON").click()
    message = json.loads(page.locator("#copy-out").input_value())
    assert message["type"] == "keyframes"
    assert message["keyframes"][0]["pose"]["JawOpen"] == 0.95
    assert "LeftEyeYaw" not in message["keyframes"][1]["pose"]  # it follows the look shapes, and their edits
    assert page.locator("#utterances option:checked").text_content() == f"{SENTENCE} (edited)"


def test_keyframes_can_be_made_from_nothing(page: "Page") -> None:
    expect(page.get_by_role("button", name="Play again")).to_be_disabled()
    page.get_by_role("button", name="Add keyframe").click()
    page.get_by_label("add a channel to keyframe 1").select_option("smile")
    page.get_by_role("button", name="Play again").click()
    with Frames(page.url.rstrip("/")) as frames:
        frames.until("MouthSmileRight", 0.49, 0.51)


def test_a_slider_moves_its_channel_and_reset_lets_go(page: "Page") -> None:
    page.get_by_text("Jaw (4)").click()
    slider = page.get_by_role("slider", name="JawOpen", exact=True)
    before = shown(page)
    slider.focus()
    slider.press("End")
    with Frames(page.url.rstrip("/")) as frames:
        frames.until("JawOpen", 0.99, 1.0)
        slider.fill("0.5")
        frames.until("JawOpen", 0.49, 0.51)
        assert (np.abs(shown(page) - before).max(axis=2) > 60).mean() > 0.005
        page.get_by_role("button", name="Reset").click()
        frames.until("JawOpen", 0.0, 0.01)
    assert slider.input_value() == "0"
    assert page.locator("#board input").count() == len(CHANNELS)
    expect(page.locator("#keyframes > li")).to_have_count(0)  # the board's own keyframes do not fill the timeline


def test_modes_are_sent(page: "Page") -> None:
    page.locator("#text").fill(SENTENCE)
    page.locator("#text").press("Enter")
    page.get_by_label("replace").check()
    page.locator("#text").fill(SENTENCE)
    page.locator("#text").press("Enter")
    expect(page.locator("#log")).to_contain_text("replace by page-")
    expect(page.locator("#utterances option")).to_have_count(2)


def test_a_spoken_text_moves_the_mouth(page: "Page") -> None:
    with Frames(page.url.rstrip("/")) as frames:
        page.locator("#text").fill(SENTENCE)
        page.locator("#text").press("Enter")
        assert "sound" not in frames.wait("started", lambda _: True)
        page.get_by_label("spoken").check()
        page.get_by_label("replace").check()
        page.locator("#text").fill(SENTENCE)
        page.locator("#text").press("Enter")
        assert frames.wait("started", lambda _: True)["sound"] > 0
        frames.until("MouthClose", 0.02, 1.0)  # the b of "job", which no keyframe closes the lips for


def test_the_mood_of_the_chosen_subject_is_set_and_shown(browser: "Browser", free_port: int, tmp_path: Path) -> None:
    subjects = '[[subjects]]\nname = "Anna"\n[[subjects]]\nname = "Bo"\n[idle.moods.shy]\nsmile = 0.3\n'
    with running(free_port, tmp_path, idle=True, extra=subjects) as address, Frames(address) as frames:
        page = browser.new_page()
        page.set_default_timeout(1000 * DEADLINE)
        page.goto(address)
        ready(page)
        mood = page.get_by_label("Mood")
        expect(mood).to_have_value("calm")
        assert mood.locator("option").all_text_contents() == ["calm", "happy", "sad", "tense", "sleepy", "shy"]
        page.get_by_label("Subject").select_option("Bo")
        mood.select_option("shy")
        frames.wait("status", lambda status: status["mood"] == {"Anna": "calm", "Bo": "shy"})
        smile = INDEX["MouthSmileLeft"]
        frames.wait("frame", lambda frame: frame["subject"] == "Bo" and frame["values"][smile] > 0.25)
        page.get_by_label("Subject").select_option("Anna")
        expect(mood).to_have_value("calm")
        mood.focus()
        page.keyboard.press("ArrowDown")
        frames.wait("status", lambda status: status["mood"] == {"Anna": "happy", "Bo": "shy"})
        frames.send({"type": "mood", "mood": "sad"})
        expect(mood).to_have_value("sad")
        page.close()


def test_what_others_send_is_shown_as_text(page: "Page") -> None:
    hostile = "<img src=x onerror=alert(1)>"
    with Frames(page.url.rstrip("/")) as frames:
        frames.send({"type": "keyframes", "id": hostile, "keyframes": [{"label": hostile, "hold": 2, "pose": {}}]})
        expect(page.locator("#acting")).to_have_text(hostile)
    expect(page.get_by_label("label of keyframe 1")).to_have_value(hostile)
    expect(page.locator("#log")).to_contain_text(hostile)
    assert page.locator("img").count() == 0


def test_light_and_dark(page: "Page") -> None:
    def ground() -> int:
        page.wait_for_function("() => window.seen !== (window.seen = document.getElementById('face').dataset.frame)")
        return int(shown(page)[2, 2].sum())

    assert ground() > 600
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme == 'dark'")
    assert ground() < 150
    page.get_by_role("button", name="Theme: auto").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    ready(page)
    expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
    assert ground() > 600


def test_a_phone_needs_no_sideways_scrolling(page: "Page", tmp_path: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.locator("#text").fill(SENTENCE)
    page.locator("#text").press("Enter")
    expect(page.locator("#keyframes > li")).to_have_count(3)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.get_by_role("button", name="Copy as text").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = (
        "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 361).map((e) => e.id)"
    )
    assert page.evaluate(wide) == []


CONTROLS = "input, select, button, textarea, summary, #log"


def test_everything_can_be_reached_and_named_by_keyboard(page: "Page") -> None:
    nameless = page.locator(CONTROLS).evaluate_all(
        "all => all.filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()"
        " || e.getAttribute('aria-labelledby'))).map((e) => e.outerHTML)"
    )
    assert nameless == []
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "[document.activeElement.id || document.activeElement.name || document.activeElement.textContent,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
        )
        if reached[-1][0] == "log":
            break
    names = [name for name, _ in reached]
    for before, after in [
        ("theme", "text"),
        ("text", "stop"),
        ("stop", "mode"),
        ("mode", "spoken"),
        ("spoken", "mood"),
        ("mood", "utterances"),
        ("utterances", "log"),
    ]:
        assert names.index(before) < names.index(after), names
    assert all(outline != "none" for _, outline in reached), reached


def test_keyboard_alone_sends_and_stops(page: "Page") -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type(SENTENCE)
    page.keyboard.press("Enter")
    expect(page.locator("#acting")).to_have_text("bright joy")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator("#log")).to_contain_text("stopped")
    expect(page.locator("#acting")).to_have_text("")


def status_of(address: str, *, host: str = "") -> int:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=DEADLINE) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_page_connects_again_and_takes_its_token_along(browser: "Browser", free_port: int, tmp_path: Path) -> None:
    token = "a secret & long"
    query = "?token=a%20secret%20%26%20long"
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(1000 * DEADLINE)
    with running(free_port, tmp_path, token=token) as address:
        assert status_of(f"{address}/") == status_of(f"{address}/app.js?token=wrong") == 401
        assert status_of(f"{address}/{query}", host="elsewhere.example") == 403
        assert status_of(f"{address}/nothing{query}") == 404
        page.goto(f"{address}/{query}")
        ready(page)
    expect(page.locator("#connection")).to_contain_text("not reached")
    with running(free_port, tmp_path, token=token):
        ready(page)
        page.locator("#text").fill(SENTENCE)
        page.locator("#text").press("Enter")
        expect(page.locator("#acting")).to_have_text("bright joy")
    context.close()

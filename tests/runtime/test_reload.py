"""Hot reload: what is applied while running, what needs a restart, and that a bad edit changes nothing."""

import asyncio
import logging
from pathlib import Path

import pytest

from kff_live.protocols.errors import UserError
from kff_live.protocols.messages import Event, Mood, Refused, Say, Started
from kff_live.runtime.app import App
from kff_live.runtime.clock import ManualClock
from kff_live.runtime.config import Config, LiveLink, decode
from kff_live.runtime.reload import Reloader, applicable, needs_restart


class Watched:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        path.write_text(text)
        self.config = decode(text)
        self.refuse = False
        self.reloader = Reloader(path, ManualClock(), config=lambda: self.config, apply=self.apply)

    def apply(self, config: Config) -> None:
        if self.refuse:
            raise UserError("sinks: the host 'x' cannot be found")
        self.config = config

    def edit(self, text: str) -> None:
        self.path.write_text(text)
        self.reloader.look()


def test_gains_and_targets_are_applied_at_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "config.toml", "")
    watched.edit('[[subjects]]\ngain = { JawOpen = 0.5 }\n[[sinks]]\ntype = "livelink"\ntargets = ["127.0.0.1:9"]\n')
    assert watched.config.subjects[0].gain == {"JawOpen": 0.5}
    assert watched.config.sinks == (LiveLink(targets=("127.0.0.1:9",)),)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("fps = 30", "fps"),
        ('[model]\nengine = "none"', "model"),
        ("[websocket]\nport = 9999", "websocket"),
        ("[osc_in]\nenabled = false", "osc_in"),
        ('[[subjects]]\nname = "Other"', "subjects"),
        ('[[subjects]]\ndevice = "x"', "subjects[0].device"),
        ("[capture]\nport = 9999", "capture.port"),
    ],
)
def test_what_needs_a_restart_is_named_and_left_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, key: str
) -> None:
    watched = Watched(tmp_path / "config.toml", "")
    watched.edit(text + "\n[queue]\nlimit = 7\n")
    assert f"these need a restart: {key}" in caplog.text
    assert watched.config == decode("[queue]\nlimit = 7\n")


@pytest.mark.parametrize("text", ["fsp = 3", "[queue]\nlimit = 0", "not toml at all ["])
def test_a_bad_edit_is_reported_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    watched = Watched(tmp_path / "config.toml", "[queue]\nlimit = 9\n")
    watched.edit(text)
    assert "the settings stay as they were" in caplog.text
    assert watched.config == decode("[queue]\nlimit = 9\n")


def test_settings_that_cannot_be_applied_here_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(tmp_path / "config.toml", "")
    watched.refuse = True
    watched.edit("[queue]\nlimit = 3\n")
    assert "cannot be found" in caplog.text
    assert watched.config == Config()


def test_a_file_that_vanishes_or_stays_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    watched = Watched(tmp_path / "config.toml", "[queue]\nlimit = 9\n")
    watched.reloader.look()
    watched.path.unlink()
    watched.reloader.look()
    assert caplog.records == []
    assert watched.config.queue.limit == 9


@pytest.mark.parametrize(
    "text",
    [
        "[talk]\nrate = 90",
        "[talk.regions]\njaw = { weight = 0.5 }",
        "[idle]\nenabled = false",
        "[idle.regions]\nhead = { weight = 0.0 }",
        "[capture]\nfade = 2.0\ntimeout = 3.0\nsmooth = 0.1",
        '[capture.regions]\nmouth = { mode = "override" }',
    ],
)
def test_layers_are_applied_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    watched = Watched(tmp_path / "config.toml", "")
    watched.edit(text)
    assert watched.config == decode(text) != Config()
    assert caplog.messages == ["settings read again"]


def test_the_running_app_takes_over_what_can_be_applied(free_port: int) -> None:
    base = f"sinks = []\n[model]\nengine = 'none'\n[websocket]\nport = {free_port}\n[osc_in]\nenabled = false\n"
    before = decode(f"{base}[capture]\nenabled = true\n")
    after = decode(
        f"{base}[capture]\nenabled = true\nport = 9999\nfade = 2.0\n[capture.regions]\nbrows = {{ weight = 0.25 }}\n"
        "[talk]\nrate = 50\n[talk.regions]\njaw = { weight = 0.5 }\n"
    )

    async def seconds_spoken(app: App) -> float:
        started = asyncio.Event()

        def tell(event: Event) -> None:
            if isinstance(event, Started):
                started.set()

        director = app.desk.directors["Face"]
        task = asyncio.create_task(director.run())
        director.say(Say(text="one two three four five six", speech=True), tell)
        async with asyncio.timeout(30):
            await started.wait()
        speech = app.players["Face"].plan.speech
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert speech is not None
        return speech.duration

    async def scenario() -> None:
        app = App(before, "test")
        usual = await seconds_spoken(app)
        app.apply(applicable(before, after))
        assert app.capture is not None
        assert (app.capture.settings.fade, app.capture.settings.port) == (2.0, before.capture.port)
        plan = app.players["Face"].plan
        assert (plan.settings.talk == after.talk.regions.mix()).all()
        assert (plan.settings.live == after.capture.regions.mix()).all()
        assert await seconds_spoken(app) == pytest.approx(usual * 175 / 50, rel=0.05)

    asyncio.run(scenario())


def test_a_mood_set_by_message_holds_until_idle_settings_are_edited(free_port: int) -> None:
    base = f"sinks = []\n[model]\nengine = 'none'\n[websocket]\nport = {free_port}\n[osc_in]\nenabled = false\n"
    subjects = '[[subjects]]\nname = "Anna"\n[[subjects]]\nname = "Bo"\n'

    async def scenario() -> None:
        app = App(decode(base + subjects), "test")
        app.desk.hand_in(Mood(mood="sad", subject="Bo"), lambda event: None, source="test")  # before all is compiled
        with pytest.raises(Refused, match="mood: 'bored' is not one of calm"):
            app.desk.hand_in(Mood(mood="bored"), lambda event: None, source="test")
        app.apply(decode(f"{base}{subjects}[queue]\nlimit = 3\n"))
        assert app.moods == {"Anna": "calm", "Bo": "sad"}
        app.apply(decode(f'{base}{subjects}[idle]\nmood = "tense"\n'))
        assert app.moods == {"Anna": "tense", "Bo": "tense"}

    asyncio.run(scenario())


def test_equal_settings_need_no_restart() -> None:
    assert needs_restart(Config(), Config()) == []
    assert applicable(Config(), Config()) == Config()

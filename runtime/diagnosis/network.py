"""The doctor's look at the network: our ports, a loop of packets, and who listens at each sink's targets."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from kff_live.protocols import livelink
from kff_live.protocols.channels import neutral
from kff_live.protocols.frames import Frame
from kff_live.protocols.monitor.formats import FORMATS
from kff_live.runtime.clock import SystemClock
from kff_live.runtime.config import Config, LiveLinkDevice, is_loopback, parse_target
from kff_live.runtime.diagnosis.ports import TAKEN, Kind, holder, is_ours, refusal
from kff_live.runtime.diagnosis.result import Result, Severity
from kff_live.runtime.sinks.making import device_id
from kff_live.runtime.sinks.udp import UdpSink

RESOLVE_SECONDS = 5.0
"""Time that a name may take to be found."""

_PACKETS = 60
_LOOP_SECONDS = 1.0
_REFUSAL_SECONDS = 0.1
_HINTS = {
    "livelink": " (in Unreal: the Apple ARKit source with this port)",
    "osc": " (an OSC server of Unreal must be bound to 0.0.0.0: one on 127.0.0.1 is moved to the LAN address)",
}
"""What to look at in a receiver, by kind of sink."""


class Listener(msgspec.Struct, frozen=True):
    """A port that `run` listens on, by its key of the settings; `needed` is False where it goes on without."""

    key: str
    kind: Kind
    host: str
    port: int
    needed: bool = True

    def __str__(self) -> str:
        return f"{self.key} ({self.kind.upper()} {self.host}:{self.port})"


def listeners(config: Config) -> list[Listener]:
    """Every port that `run` listens on."""
    found = [Listener("websocket.port", "tcp", config.websocket.host, config.websocket.port)]
    for key, settings in (("osc_in", config.osc_in), ("capture", config.capture)):
        if settings.enabled:
            found.append(Listener(f"{key}.port", "udp", settings.host, settings.port))
    for i, sink in enumerate(config.sinks):
        if isinstance(sink, LiveLinkDevice):
            found.append(Listener(f"sinks[{i}].port", "tcp", sink.host, sink.port, needed=False))
        elif listen := getattr(sink, "listen", ""):
            found.append(Listener(f"sinks[{i}].listen", "udp", *parse_target(listen, where="listen"), needed=False))
    return found


class Target(msgspec.Struct, frozen=True):
    """Where a sink sends UDP: its place in the settings, its type, host and port."""

    sink: int
    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"sinks[{self.sink}], {self.kind}: {self.host}:{self.port}"

    @property
    def monitor(self) -> str:
        """The command that shows what arrives at this target."""
        form = self.kind if self.kind in FORMATS else "osc"
        return f"kff-live monitor --format {form} --port {self.port}"


def targets(config: Config) -> list[Target]:
    """Every UDP target of every sink."""
    return [
        Target(i, str(sink.__struct_config__.tag), *parse_target(target, where="targets"))
        for i, sink in enumerate(config.sinks)
        for target in getattr(sink, "targets", ())
    ]


def beyond_loopback(config: Config) -> list[str]:
    """What a firewall has to let through."""
    ways = [f"{one.kind.upper()} {one.port} in" for one in listeners(config) if not is_loopback(one.host)]
    return ways + [f"UDP {to.port} out to {to.host}" for to in targets(config) if not is_loopback(to.host)]


def ports(config: Config) -> Iterator[Result]:
    """Whether every port that `run` listens on is free, and else who holds it."""
    for one in listeners(config):
        error = refusal(one.kind, one.host, one.port)
        if error is None:
            yield Result("ports", "ok", f"{one} is free")
        elif error.errno in TAKEN:
            yield _taken(one, holder(one.kind, one.port))
        else:
            cure = "its host must be an address of this machine"
            yield Result("ports", "error", f"{one}: {error.strerror}", cure)


def _taken(one: Listener, who: str | None) -> Result:
    if who is not None and is_ours(who):
        return Result("ports", "note", f"{one} is held by {who}: kff-live runs already")
    cure = f"close it, or choose another {one.key}" if who else f"choose another {one.key}"
    severity: Severity = "error" if one.needed else "warning"
    return Result("ports", severity, f"{one} is held by {who or 'a program that cannot be read'}", cure)


def loop(config: Config) -> Iterator[Result]:
    """Whether packets leave through a sink's socket and come back, on every own address that is needed."""
    addresses = ["127.0.0.1"]
    for to in targets(config):
        own = _own_address(to.host, to.port)
        if own is not None and not is_loopback(own) and own not in addresses:
            addresses.append(own)
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((address, 0))
            udp.settimeout(_LOOP_SECONDS)
            came, seconds = _loop(config, udp, address)
        found = f"{came} of {_PACKETS} packets came back over {address}"
        if came < _PACKETS:
            yield Result("loop", "error", found, "something on this machine drops UDP: a firewall or security program")
        else:
            yield Result("loop", "ok", f"{found}, each in {1e6 * seconds:.0f} us")


def _loop(config: Config, udp: socket.socket, address: str) -> tuple[int, float]:
    """How many packets came back, and how long one took, s."""
    name, rate = config.subjects[0].name, config.rate
    sink = UdpSink(livelink.Encoder(device_id(name), name, rate), [(address, udp.getsockname()[1])])
    time, came = SystemClock(), 0
    start = time.now()
    try:
        for number in range(_PACKETS):
            sink.send(Frame(name, number, 0.0, rate, neutral()))
            came += livelink.decode(udp.recv(2048)).number == number
    except TimeoutError:
        pass
    finally:
        sink.close()
    return came, (time.now() - start) / _PACKETS


def sinks(config: Config) -> Iterator[Result]:
    """For every target whether its host can be found, and on this machine whether anybody listens."""
    for to in targets(config):
        addresses = _resolved(to.host, to.port)
        if not addresses:
            yield Result("sinks", "error", f"{to}: the host cannot be found", "correct the target in [[sinks]]")
        elif not is_loopback(addresses[0]):
            yield _beyond(to)
        elif _refused(to.host, to.port):
            cure = f"start the receiver{_HINTS.get(to.kind, '')}, or see what arrives:  {to.monitor}"
            yield Result("sinks", "note", f"{to}: nobody listens there now", cure)
        else:
            yield Result("sinks", "ok", f"{to}: {holder('udp', to.port) or 'somebody'} listens")


def _beyond(to: Target) -> Result:
    own = _own_address(to.host, to.port)
    if own is None:
        cure = "is the network connected, the address right?"
        return Result("sinks", "error", f"{to}: there is no way to this address", cure)
    cure = f"UDP gives no answer; on that machine see what arrives:  {to.monitor} --host 0.0.0.0 --allow {own}"
    return Result("sinks", "note", f"{to}: leaves from {own}", cure)


def _resolved(host: str, port: int) -> list[str]:
    """The addresses of a host; none where it is not found in time."""
    found: list[str] = []

    def look() -> None:
        with suppress(OSError, UnicodeError):
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM))

    thread = threading.Thread(target=look, name=f"finding {host}", daemon=True)  # a name server may take minutes
    thread.start()
    thread.join(RESOLVE_SECONDS)
    return list(found)


def _connected(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    udp = socket.socket(family, kind, protocol)
    try:
        udp.connect(address)  # sends nothing
    except OSError:
        udp.close()
        raise
    return udp


def _own_address(host: str, port: int) -> str | None:
    """The address from which packets to a host leave; None where there is no way."""
    try:
        with _connected(host, port) as udp:
            return str(udp.getsockname()[0])
    except (OSError, UnicodeError):
        return None


def _refused(host: str, port: int) -> bool:
    """Whether this machine itself says that nobody listens: its answer to an empty datagram, which receivers skip."""
    with _connected(host, port) as udp:
        udp.settimeout(_REFUSAL_SECONDS)
        try:
            udp.send(b"")
            udp.recv(1)
        except ConnectionError:
            return True
        except OSError:
            return False
    return False

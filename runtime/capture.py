"""Live capture: somebody's own face, with the acted expressions laid over it.

The listener lives on the asyncio loop and hands each pose over by one assignment; the layer lives on the frame
thread. A face that is lost is held while the layer fades out; one that is found again is eased to from what is shown.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kff_live.protocols import ifacialmocap, livelink, vmc
from kff_live.protocols.channels import HIGH, LOW, Pose, neutral
from kff_live.protocols.errors import DecodeError
from kff_live.runtime.clock import Clock
from kff_live.runtime.config import Capture
from kff_live.runtime.player import Smoothed, step_share
from kff_live.runtime.udp_source import UdpSource

FORMATS = {"livelink": "Live Link", "vmc": "VMC", "ifacialmocap": "iFacialMocap"}
"""`capture.format` in words."""

CHANGE_SECONDS = 0.3
"""Time constant with which another `fade` or `smooth` comes in, by ratios: at once it would be a jump of velocity."""


@dataclass(frozen=True, eq=False)
class Tracked:
    """A captured pose and the clock time at which it came; `pose` is None when the sender says that no face is seen."""

    pose: Pose | None
    at: float


class CaptureSource(UdpSource):
    """Listens for the packets of one format; `latest` is what came last, None before the first."""

    def __init__(self, settings: Capture, clock: Clock) -> None:
        super().__init__("capture", settings.host, settings.port, allow=settings.allow)
        self.latest: Tracked | None = None
        self.settings = settings
        """May be exchanged while it listens, by one that differs in `fade`, `timeout`, `smooth` or `regions`."""
        self._clock = clock
        self._read = _reader(settings)

    def take(self, data: bytes, sender: str) -> None:
        """Take one packet over; packets of other subjects than the configured one are not ours."""
        try:
            poses = self._read(data)
        except DecodeError as error:
            self.report(f"a packet from {sender} is not {FORMATS[self.settings.format]}: {error}")
            return
        for pose in poses[-1:]:
            self.latest = Tracked(None if pose is None else np.clip(pose, LOW, HIGH), self._clock.now())


def _reader(settings: Capture) -> Callable[[bytes], Sequence[Pose | None]]:
    """What gives the poses that a packet completes; None for one that says that no face is seen."""
    if settings.format == "vmc":
        return vmc.Decoder().feed
    if settings.format == "ifacialmocap":
        return lambda data: [ifacialmocap.decode(data)]

    def read(data: bytes) -> list[Pose | None]:
        packet = livelink.decode(data)
        if settings.source and packet.subject != settings.source:
            return []
        return [packet.pose if isinstance(packet.pose, np.ndarray) else None]

    return read


class CaptureLayer:
    """The live face below the acted one, on the frame thread.

    Args:
        source: whose `latest` and `settings` are read each tick.
        kernels: protocols.kernels.
    """

    def __init__(self, source: CaptureSource, kernels: ModuleType) -> None:
        self.presence = 0.0
        """How far the live face shows, 0 to 1."""
        self._source = source
        self._kernels = kernels
        self._fade = self._easing = source.settings.fade
        self._smooth = source.settings.smooth
        self._there = Smoothed(self._fade / 4)
        self._target, self._offset, self._first, self._shown = (neutral() for _ in range(4))
        self._found_at = -math.inf
        self._tracking = False
        self._last = -math.inf

    def follow(self, now: float) -> Pose:
        """The live pose at clock time `now`, float32[61]; held while it fades out."""
        tracked, settings = self._source.latest, self._source.settings
        tracking = tracked is not None and tracked.pose is not None and now - tracked.at <= settings.timeout
        if tracked is not None and tracked.pose is not None and tracking:
            if not self._tracking:
                self._found_at, self._easing = now, settings.fade
                if self.presence < 1e-3:  # nothing is shown yet that one would have to ease away from
                    self._first[:] = self._shown[:] = tracked.pose
                self._offset = self._shown - tracked.pose
            self._target = tracked.pose
        self._tracking = tracking
        passed, self._last = now - self._last, now
        if (self._fade, self._smooth) != (settings.fade, settings.smooth):
            change = step_share(passed, CHANGE_SECONDS)
            self._fade *= (settings.fade / self._fade) ** change
            self._smooth *= (settings.smooth / self._smooth) ** change
            self._there.seconds = self._fade / 4
        presence = self._there.step(tracking, now)
        self.presence = presence if presence > 1e-4 else 0.0
        since = now - self._found_at
        left = self._kernels.decay(1.0, 0.0, self._easing, since) if since < self._easing else 0.0
        share = step_share(passed, self._smooth)
        self._kernels.follow(self._target, self._offset, left, share, self._first, self._shown)
        return self._shown

"""Live capture: somebody's own face over Live Link, with the acted expressions laid over it.

The listener lives on the asyncio loop and hands each pose over by one assignment; the layer lives on the frame
thread. A face that is lost is held while the layer fades out; one that is found again is eased to from what is shown.
"""

import asyncio
import logging
import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kff_live.protocols import livelink
from kff_live.protocols.channels import HIGH, LOW, Pose, neutral
from kff_live.protocols.errors import DecodeError, UserError
from kff_live.runtime.clock import Clock
from kff_live.runtime.config import Capture
from kff_live.runtime.player import Smoothed, step_share

_log = logging.getLogger(__name__)

_MAX_REPORTS = 20


@dataclass(frozen=True, eq=False)
class Tracked:
    """A captured pose and the clock time at which it came; `pose` is None when the sender says that no face is seen."""

    pose: Pose | None
    at: float


class CaptureSource(asyncio.DatagramProtocol):
    """Listens for Live Link Face packets; `latest` is what came last, None before the first."""

    def __init__(self, settings: Capture, clock: Clock) -> None:
        self.latest: Tracked | None = None
        self.settings = settings
        self._clock = clock
        self._reports = 0
        self._transport: asyncio.BaseTransport | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.settings.host}:{self.settings.port}"

    async def start(self) -> None:
        """Bind the port.

        Raises:
            UserError: the port is in use, or the address is not this machine's.
        """
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=(self.settings.host, self.settings.port)
            )
        except OSError as error:
            raise UserError(
                f"capture.port: {self.address} cannot be used ({error.strerror or error}); "
                "choose another port in config.toml"
            ) from None

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take one packet over; packets of other subjects than the configured one are not ours."""
        if self.settings.allow and addr[0] not in self.settings.allow:
            return
        try:
            packet = livelink.decode(data)
        except DecodeError as error:
            self._reports += 1
            if self._reports <= _MAX_REPORTS:
                _log.warning("capture: a packet from %s is not Live Link: %s", addr[0], error)
            return
        if self.settings.source and packet.subject != self.settings.source:
            return
        pose = np.clip(packet.pose, LOW, HIGH) if isinstance(packet.pose, np.ndarray) else None
        self.latest = Tracked(pose, self._clock.now())

    def error_received(self, exc: Exception) -> None:
        """Nothing is sent, so an error here concerns nobody."""


class CaptureLayer:
    """The live face below the acted one, on the frame thread.

    Args:
        source: whose `latest` is read each tick.
        kernels: protocols.kernels.
    """

    def __init__(self, source: CaptureSource, kernels: ModuleType) -> None:
        settings = source.settings
        self.presence = 0.0
        """How far the live face shows, 0 to 1."""
        self._source = source
        self._kernels = kernels
        self._fade, self._timeout, self._smooth = settings.fade, settings.timeout, settings.smooth
        self._there = Smoothed(settings.fade / 4)
        self._target, self._offset, self._first, self._shown = (neutral() for _ in range(4))
        self._found_at = -math.inf
        self._tracking = False
        self._last = -math.inf

    def follow(self, now: float) -> Pose:
        """The live pose at clock time `now`, float32[61]; held while it fades out."""
        tracked = self._source.latest
        tracking = tracked is not None and tracked.pose is not None and now - tracked.at <= self._timeout
        if tracked is not None and tracked.pose is not None and tracking:
            if not self._tracking:
                self._found_at = now
                if self.presence < 1e-3:  # nothing is shown yet that one would have to ease away from
                    self._first[:] = self._shown[:] = tracked.pose
                self._offset = self._shown - tracked.pose
            self._target = tracked.pose
        self._tracking = tracking
        share = step_share(now - self._last, self._smooth)
        self._last = now
        presence = self._there.step(tracking, now)
        self.presence = presence if presence > 1e-4 else 0.0
        since = now - self._found_at
        left = self._kernels.decay(1.0, 0.0, self._fade, since) if since < self._fade else 0.0
        self._kernels.follow(self._target, self._offset, left, share, self._first, self._shown)
        return self._shown

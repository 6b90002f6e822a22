"""The formats that can be judged: how, on which port they usually come, and what two equal datagrams mean."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from kff_live.protocols import ifacialmocap, livelink, osc, vmc
from kff_live.protocols.monitor import ifacialmocap as judged_ifacialmocap
from kff_live.protocols.monitor import livelink as judged_livelink
from kff_live.protocols.monitor.osc import OscJudge
from kff_live.protocols.monitor.stream import Judge, Monitor
from kff_live.protocols.monitor.vmc import VmcJudge


class Format(msgspec.Struct, frozen=True):
    """A format: the judge of one session, the usual port, and `identical` as of `stream.Stream`."""

    judge: Callable[[], Judge]
    port: int
    identical: str = ""

    def monitor(self) -> Monitor:
        """A new monitor of this format."""
        return Monitor(self.judge(), identical=self.identical)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "livelink": Format(judged_livelink.LiveLinkJudge, livelink.DEFAULT_PORT, judged_livelink.IDENTICAL),
        "vmc": Format(VmcJudge, vmc.DEFAULT_PORT),
        "ifacialmocap": Format(
            lambda: judged_ifacialmocap.judge, ifacialmocap.DEFAULT_PORT, judged_ifacialmocap.IDENTICAL
        ),
        "osc": Format(OscJudge, osc.DEFAULT_PORT),
    }
)
"""By the name that `--format` takes."""

"""How a layer meets what lies below it: a weight and a mode for each region of the face."""

from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from kff_live.protocols.channels import COUNT, GROUPS

Mode = Literal["add", "max", "override"]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1)]

Mix = NDArray[np.float32]
"""float32[3, 61], a row for each of MODES: how far a layer shows in each channel in that way. Mixes can be blended, so
that a mode changes as smoothly as a weight."""

MODES: tuple[Mode, ...] = ("add", "max", "override")
"""The rows of a Mix; `kernels.meet` says what each does."""


class Blend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one region: how far a layer shows, and in which way."""

    weight: Weight = 1.0
    mode: Mode = "override"


class Adding(Blend, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A blend that adds where no mode is given."""

    mode: Mode = "add"


class Greater(Blend, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A blend that takes the greater where no mode is given."""

    mode: Mode = "max"


class Regions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A blend for each of channels.GROUPS; by default the layer leads, as a voice leads the mouth."""

    brows: Blend = Blend()
    lids: Blend = Blend()
    gaze: Blend = Blend()
    cheeks: Blend = Blend()
    nose: Blend = Blend()
    jaw: Blend = Blend()
    mouth: Blend = Blend()
    tongue: Blend = Blend()
    head: Blend = Blend()

    def mix(self) -> Mix:
        """The same by mode and channel: read-only."""
        mix = np.zeros((len(MODES), COUNT), np.float32)
        for group, indices in GROUPS.items():
            blend: Blend = getattr(self, group)
            mix[MODES.index(blend.mode), list(indices)] = blend.weight
        mix.setflags(write=False)
        return mix


class IdleRegions(Regions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the face does by itself is added to what is acted."""

    brows: Adding = Adding()
    lids: Adding = Adding()
    gaze: Adding = Adding()
    cheeks: Adding = Adding()
    nose: Adding = Adding()
    jaw: Adding = Adding()
    mouth: Adding = Adding()
    tongue: Adding = Adding()
    head: Adding = Adding()


class LiveRegions(Regions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An acted expression over a live face: brows and half of a turn of the head add up, gaze stays the performer's
    own, elsewhere the greater shows.
    """

    brows: Adding = Adding()
    lids: Greater = Greater()
    gaze: Blend = Blend(weight=0.0)
    cheeks: Greater = Greater()
    nose: Greater = Greater()
    jaw: Greater = Greater()
    mouth: Greater = Greater()
    tongue: Greater = Greater()
    head: Adding = Adding(weight=0.5)

"""The numbers of the idle layer: settings with ranges, and the moods that shift them."""

from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kff_live.protocols.layers import IdleRegions

_Share = Annotated[float, Meta(ge=0, le=1)]
_Factor = Annotated[float, Meta(ge=0.1, le=10)]
_Small = Annotated[float, Meta(ge=0, le=0.6)]
_Degrees = Annotated[float, Meta(ge=-30, le=30)]


class Mood(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a mood does to the settings: factors on them, then what it adds to a resting face."""

    blink_rate: _Factor = 1.0
    blink_double: _Factor = 1.0
    blink_time: _Factor = 1.0
    """Factor on closing, closed and opening time."""
    gaze_hold: _Factor = 1.0
    gaze_away: _Factor = 1.0
    saccade_interval: _Factor = 1.0
    saccade_away: _Factor = 1.0
    head: _Factor = 1.0
    breath_rate: _Factor = 1.0
    breath_depth: _Factor = 1.0

    lid_rest: _Small = 0.0
    """Added to how far the lids rest closed, 0 to 1. This and what follows steps back while something is acted."""
    gaze_down: _Degrees = 0.0
    """Degrees that the eyes are lowered."""
    head_pitch: _Degrees = 0.0
    """Degrees, + = up."""
    brow_inner: _Small = 0.0
    brow_outer: _Small = 0.0
    brow_down: _Small = 0.0
    smile: _Small = 0.0
    frown: _Small = 0.0
    press: _Small = 0.0
    cheek: _Small = 0.0


MOODS: MappingProxyType[str, Mood] = MappingProxyType(
    {
        "calm": Mood(),
        "happy": Mood(
            blink_rate=1.1, gaze_hold=1.3, saccade_interval=0.9, head=1.3, breath_rate=1.1,
            head_pitch=1.0, smile=0.12, cheek=0.06, brow_outer=0.03,
        ),
        "sad": Mood(
            blink_rate=1.15, blink_time=1.2, gaze_hold=0.6, gaze_away=2.0, saccade_interval=1.4, saccade_away=0.8,
            head=0.7, breath_rate=0.9, breath_depth=1.3,
            lid_rest=0.08, gaze_down=4.0, head_pitch=-3.0, brow_inner=0.15, frown=0.08,
        ),
        "tense": Mood(
            blink_rate=1.6, blink_double=1.5, blink_time=0.9, gaze_hold=0.7, gaze_away=0.7, saccade_interval=0.65,
            saccade_away=1.2, head=0.8, breath_rate=1.35, breath_depth=0.7,
            brow_inner=0.04, brow_down=0.10, press=0.10,
        ),
        "sleepy": Mood(
            blink_rate=1.3, blink_double=1.5, blink_time=1.8, gaze_hold=1.5, gaze_away=1.5, saccade_interval=2.0,
            saccade_away=0.6, head=1.3, breath_rate=0.8, breath_depth=1.4,
            lid_rest=0.25, gaze_down=3.0, head_pitch=-3.0,
        ),
    }
)  # fmt: skip
"""The built-in moods. Directions that were measured: more and shorter-spaced blinks under stress (Korda et al. 2021),
more blinks in depression (Mackintosh et al. 1983) and when long awake (Barbato et al. 2007), longer blinks when drowsy
(Caffier et al. 2003), faster breathing when anxious (Masaoka & Homma 1997). The sizes are ours."""


class IdleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the face does by itself. Times in seconds, angles in degrees, rates a minute unless said otherwise.

    A spread is a coefficient of variation: the standard deviation as a share of the mean.
    """

    enabled: bool = True
    weight: _Share = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    mood: str = "calm"

    blink_rate: Annotated[float, Meta(ge=0, le=60)] = 17.0
    """17 at rest, 26 in conversation (Bentivoglio et al. 1997)."""
    blink_spread: Annotated[float, Meta(ge=0, le=2)] = 0.5
    blink_double: Annotated[float, Meta(ge=0, le=0.5)] = 0.08
    """Share of blinks that are followed by another at once."""
    blink_partial: _Share = 0.2
    """Share of blinks that do not close the lids; about half in front of a video (Ousler et al. 2014)."""
    blink_gaze: Annotated[float, Meta(ge=0, le=3)] = 1.0
    """How strongly a gaze shift draws a blink: nearly always at 33 degrees (Evinger et al. 1994)."""
    blink_closing: Annotated[float, Meta(ge=0.04, le=0.5)] = 0.09
    blink_closed: Annotated[float, Meta(ge=0, le=0.5)] = 0.015
    blink_opening: Annotated[float, Meta(ge=0.06, le=1)] = 0.22
    lid_rest: _Small = 0.0
    """How far the lids are closed at rest, 0 to 1."""
    lid_follow: Annotated[float, Meta(ge=0, le=2)] = 0.7
    """How far the upper lids go along with vertical gaze; 1: angle for angle (Becker & Fuchs 1988)."""

    viewer_yaw: _Degrees = 0.0
    """Where the one that the face looks at is: degrees, + = the face's right."""
    viewer_pitch: _Degrees = 0.0
    """Degrees, + = down."""
    viewer_distance: Annotated[float, Meta(ge=0.2, le=100)] = 1.0
    """Metres; how far the eyes converge."""
    gaze_yaw: Annotated[float, Meta(ge=0, le=30)] = 15.0
    """Farthest glance to a side, from where the viewer is."""
    gaze_pitch: Annotated[float, Meta(ge=0, le=25)] = 10.0
    """Farthest glance up or down."""
    gaze_hold: Annotated[float, Meta(ge=0.3, le=120)] = 3.0
    """Mean time of looking at the viewer; 3 s (Argyle 1975)."""
    gaze_away: Annotated[float, Meta(ge=0.2, le=120)] = 1.0
    """Mean time of looking elsewhere; 3 s with and 1 s off are the 75 % of someone who listens (Argyle 1975)."""
    saccade_interval: Annotated[float, Meta(ge=0.2, le=20)] = 0.75
    saccade_spread: Annotated[float, Meta(ge=0, le=2)] = 0.6
    saccade_face: Annotated[float, Meta(ge=0, le=10)] = 3.0
    """Mean size of the saccades on the viewer's face."""
    saccade_away: Annotated[float, Meta(ge=1, le=20)] = 6.9
    """Mean of the exponential that sizes of glances follow (Lee, Badler & Badler 2002)."""
    micro_rate: Annotated[float, Meta(ge=0, le=3)] = 1.2
    """Micro-saccades a second; 1 to 2 (Martinez-Conde et al. 2009)."""
    micro_size: Annotated[float, Meta(ge=0, le=1)] = 0.3
    drift: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    """RMS of the slow wandering within a fixation (Cherici et al. 2012)."""
    vor: _Share = 0.9
    """Share of the layer's own head motion that the eyes make up for."""

    breath_rate: Annotated[float, Meta(ge=3, le=60)] = 15.0
    breath_spread: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """21 % from breath to breath (Tobin et al. 1988)."""
    breath_head: Annotated[float, Meta(ge=0, le=3)] = 0.25
    """Degrees that the head rises with a breath."""
    breath_mouth: Annotated[float, Meta(ge=0, le=0.2)] = 0.01
    """How far jaw and nostrils open with a breath, 0 to 1."""

    head_yaw: Annotated[float, Meta(ge=0, le=5)] = 0.5
    """RMS of the head's micro-motion."""
    head_pitch: Annotated[float, Meta(ge=0, le=5)] = 0.4
    head_roll: Annotated[float, Meta(ge=0, le=5)] = 0.3
    head_low: Annotated[float, Meta(ge=0.02, le=1)] = 0.1
    """Hz; slower motion than this is held back."""
    head_high: Annotated[float, Meta(ge=0.2, le=6)] = 3.0
    """Hz; faster motion than this is held back."""
    brow_asymmetry: Annotated[float, Meta(ge=0, le=0.3)] = 0.03
    mouth_asymmetry: Annotated[float, Meta(ge=0, le=0.3)] = 0.02

    trace: Annotated[float, Meta(ge=0, le=0.5)] = 0.06
    """Share of the last expression that stays for a while."""
    trace_fade: Annotated[float, Meta(ge=0.3, le=120)] = 6.0
    """Seconds until 5 % of that is left."""

    regions: IdleRegions = IdleRegions()
    """How all of this meets what is acted; `weight` scales every region."""
    moods: dict[str, dict[str, float]] = {}
    """Changes to the built-in moods by name and field, and moods of one's own, which begin as calm ones."""

    def __post_init__(self) -> None:
        for name in self.moods:
            self.mood_named(name)
        self.mood_named(self.mood)
        if self.head_low >= self.head_high:
            raise ValueError(f"head_low: {self.head_low:g} Hz is not below head_high, {self.head_high:g} Hz")

    @property
    def mood_names(self) -> list[str]:
        """Every mood there is: the built-in ones, then one's own."""
        return list(dict.fromkeys([*MOODS, *self.moods]))

    def mood_named(self, name: str) -> Mood:
        """A built-in mood, with what `moods` changes about it.

        Raises:
            ValueError: there is no such mood, or `moods` has an unknown field or a value out of range for it.
        """
        if name not in self.mood_names:
            raise ValueError(f"mood: {name!r} is not one of {', '.join(self.mood_names)}")
        fields: dict[str, Any] = msgspec.structs.asdict(MOODS.get(name, MOODS["calm"]))
        try:
            return msgspec.convert({**fields, **self.moods.get(name, {})}, Mood)
        except msgspec.ValidationError as error:
            raise ValueError(f"moods.{name}: {error}") from None

"""The test pattern: every channel on its own, and what somebody who looks at the face must see.

A channel moves alone but for these companions, without which it would not show or could not be:
* MouthClose and TongueOut open the jaw;
* EyeLook* turn the eye that they belong to, as every acted pose does.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from kff_live.protocols.channels import CHANNELS, INDEX, LIVELINK, SHAPES, Pose, neutral
from kff_live.protocols.keyframes import Keyframe, as_acted, release

ANGLE = 0.4
"""How far a rotation goes to either side, rad: 23 degrees."""

COMPANIONS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"MouthClose": {"JawOpen": 1.0}, "TongueOut": {"JawOpen": 0.4}}
)
"""What moves along with a channel, and how far."""

_REST = 0.2  # share of a step for which the face is at rest at its end
_WAY = 0.25  # and in which it comes and goes

_SIDES = {
    "left": "the face's left: your right if it faces you",
    "right": "the face's right: your left if it faces you",
    "": "",
}

_SHAPES = {
    "EyeBlink": "the {side} eye closes",
    "EyeLookDown": "the {side} eye looks down",
    "EyeLookIn": "the {side} eye looks towards the nose",
    "EyeLookOut": "the {side} eye looks away from the nose",
    "EyeLookUp": "the {side} eye looks up",
    "EyeSquint": "the lids of the {side} eye narrow",
    "EyeWide": "the {side} eye opens wide",
    "JawForward": "the jaw comes forward",
    "Jaw": "the jaw moves to the {side}",
    "JawOpen": "the mouth opens, the jaw drops",
    "MouthClose": "the lips meet over the open jaw",
    "MouthFunnel": "the lips open round, as in 'oh'",
    "MouthPucker": "the lips come together, as for a kiss",
    "Mouth": "the mouth moves to the {side}",
    "MouthSmile": "the {side} corner of the mouth goes up and out",
    "MouthFrown": "the {side} corner of the mouth goes down",
    "MouthDimple": "the {side} corner of the mouth goes back",
    "MouthStretch": "the {side} corner of the mouth stretches outwards",
    "MouthRollLower": "the lower lip rolls in",
    "MouthRollUpper": "the upper lip rolls in",
    "MouthShrugLower": "the lower lip pushes up",
    "MouthShrugUpper": "the upper lip pushes up",
    "MouthPress": "the lips press together on the {side}",
    "MouthLowerDown": "the lower lip goes down on the {side}",
    "MouthUpperUp": "the upper lip goes up on the {side}",
    "BrowDown": "the {side} brow goes down",
    "BrowInnerUp": "the inner ends of both brows go up",
    "BrowOuterUp": "the outer end of the {side} brow goes up",
    "CheekPuff": "both cheeks fill with air",
    "CheekSquint": "the {side} cheek rises",
    "NoseSneer": "the {side} side of the nose wrinkles",
    "TongueOut": "the tongue comes out of the open mouth",
}

# By rotation and sign: what is seen, and on which side.
_ROTATIONS = {
    ("HeadYaw", 1): ("the head turns to its left", "left"),
    ("HeadYaw", -1): ("the head turns to its right", "right"),
    ("HeadPitch", 1): ("the head looks up", ""),
    ("HeadPitch", -1): ("the head looks down", ""),
    ("HeadRoll", 1): ("the head tilts, left ear down", "left"),
    ("HeadRoll", -1): ("the head tilts, right ear down", "right"),
    ("LeftEyeYaw", 1): ("the left eye turns towards the nose", "left"),
    ("LeftEyeYaw", -1): ("the left eye turns away from the nose", "left"),
    ("LeftEyePitch", 1): ("the left eye turns down", "left"),
    ("LeftEyePitch", -1): ("the left eye turns up", "left"),
    ("LeftEyeRoll", 1): ("the left eye rolls about its own axis", "left"),
    ("LeftEyeRoll", -1): ("the left eye rolls back", "left"),
    ("RightEyeYaw", 1): ("the right eye turns away from the nose", "right"),
    ("RightEyeYaw", -1): ("the right eye turns towards the nose", "right"),
    ("RightEyePitch", 1): ("the right eye turns down", "right"),
    ("RightEyePitch", -1): ("the right eye turns up", "right"),
    ("RightEyeRoll", 1): ("the right eye rolls about its own axis", "right"),
    ("RightEyeRoll", -1): ("the right eye rolls back", "right"),
}

_EYES = "; a MetaHuman follows EyeLook* instead"


class Step(msgspec.Struct, frozen=True):
    """One channel, and for a rotation one of its two directions.

    Args:
        channel: its name.
        value: how far it goes.
        seen: what happens on the face.
        side: "left" or "right" of the face, "" in the middle.
    """

    channel: str
    value: float
    seen: str
    side: str

    @property
    def where(self) -> str:
        """Where a viewer has to look; empty for what has no side."""
        return _SIDES[self.side]

    @property
    def pose(self) -> Pose:
        """The pose at the furthest point, float32[61], without the eye angles that follow EyeLook*."""
        pose = neutral()
        pose[INDEX[self.channel]] = self.value
        for name, value in COMPANIONS.get(self.channel, {}).items():
            pose[INDEX[name]] = value
        return pose

    def keyframes(self, seconds: float) -> list[Keyframe]:
        """There, and back to rest: `seconds` in all, the last of them at rest."""
        way = _WAY * seconds
        hold = seconds - 2 * way - _REST * seconds
        there = Keyframe(self.pose, way, hold, label=self.channel)
        return [as_acted(there), release(way)]


def steps(channels: tuple[str, ...] = LIVELINK) -> Iterator[Step]:
    """The steps of the named channels, in the order given; names as in `channels.LIVELINK`."""
    for name in channels:
        side = "left" if "Left" in name else "right" if "Right" in name else ""
        if INDEX[name] < SHAPES:
            base = name.removesuffix("Left").removesuffix("Right")
            yield Step(name, CHANNELS[INDEX[name]].high, _SHAPES[base].format(side=side), side)
        else:
            for sign in (1, -1):
                seen, side = _ROTATIONS[name, sign]
                yield Step(name, sign * ANGLE, seen + (_EYES if "Eye" in name else ""), side)

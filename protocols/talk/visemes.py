"""Visemes: which pose the mouth takes for a phoneme, how firmly, and how long the phoneme lasts.

The 15 visemes that Oculus LipSync made usual, and `ae` and `ah` beside its `aa`, which differ in the jaw. Levels
are ours: the lips' shapes of phonetics textbooks (closure, protrusion, spread, jaw height) on ARKit's channels, jaw
openings kept to what speech needs. A closed mouth is mouthClose and jawOpen at one value, since mouthClose alone
would pull the lips through the teeth.
"""

from dataclasses import dataclass
from types import MappingProxyType

from kff_live.protocols.channels import INDEX, Pose, neutral

CLOSED_JAW = 0.1
"""Jaw and mouthClose of a closed viseme. Nothing else has mouthClose, so mouthClose / CLOSED_JAW says how closed."""

REST = "rest"

_LEVELS = {
    REST: "",
    "pp": f"JawOpen={CLOSED_JAW} MouthClose={CLOSED_JAW} MouthPress=0.45 MouthRollLower=0.25 MouthRollUpper=0.2",
    "ff": "JawOpen=0.08 MouthRollLower=0.65 MouthUpperUp=0.25 MouthShrugLower=0.15",
    "th": "JawOpen=0.18 MouthLowerDown=0.2 MouthUpperUp=0.12 TongueOut=0.2",
    "dd": "JawOpen=0.14 MouthLowerDown=0.22 MouthUpperUp=0.1 MouthStretch=0.1",
    "nn": "JawOpen=0.2 MouthLowerDown=0.18 MouthUpperUp=0.08",
    "kk": "JawOpen=0.25 MouthLowerDown=0.12 MouthUpperUp=0.12",
    "ch": "JawOpen=0.1 MouthFunnel=0.5 MouthPucker=0.2 MouthLowerDown=0.2 MouthUpperUp=0.15",
    "ss": "JawOpen=0.06 MouthStretch=0.25 MouthSmile=0.1 MouthLowerDown=0.3 MouthUpperUp=0.2",
    "rr": "JawOpen=0.16 MouthPucker=0.35 MouthFunnel=0.25",
    "aa": "JawOpen=0.55 MouthLowerDown=0.25 MouthUpperUp=0.15",
    "ae": "JawOpen=0.45 MouthStretch=0.3 MouthLowerDown=0.3 MouthUpperUp=0.2",
    "ah": "JawOpen=0.32 MouthLowerDown=0.15 MouthUpperUp=0.08",
    "eh": "JawOpen=0.32 MouthStretch=0.25 MouthSmile=0.12 MouthLowerDown=0.25 MouthUpperUp=0.15",
    "ih": "JawOpen=0.15 MouthStretch=0.35 MouthSmile=0.22 MouthDimple=0.1 MouthLowerDown=0.25 MouthUpperUp=0.15",
    "oh": "JawOpen=0.38 MouthFunnel=0.5 MouthPucker=0.25",
    "ou": "JawOpen=0.14 MouthPucker=0.7 MouthFunnel=0.3",
}
_PHONEMES = {
    "pp": "P B M", "ff": "F V", "th": "TH DH", "dd": "T D", "nn": "N L", "kk": "K G NG HH", "ch": "CH JH SH ZH",
    "ss": "S Z", "rr": "R ER", "aa": "AA", "ae": "AE", "ah": "AH", "eh": "EH", "ih": "IH IY Y", "oh": "AO",
    "ou": "UW UH W",
}  # fmt: skip
_GLIDING = {"AY": ("aa", "ih"), "AW": ("aa", "ou"), "OY": ("oh", "ih"), "EY": ("eh", "ih"), "OW": ("oh", "ou")}


@dataclass(frozen=True, eq=False)
class Viseme:
    """A mouth pose, and how it behaves among others.

    Args:
        pose: float32[61], read-only.
        closes: the lips meet or the lower one meets the teeth: reached whatever stands beside it.
        strength: its dominance over its neighbours, 1 for a plain vowel (Cohen and Massaro 1993).
        reach: seconds before and after its apex within which it shows, where its neighbours leave it the time.
        jaw, lips, shape: how far the phoneme itself sets the jaw, the lips' parting, their rounding or spreading, 0 to
            1; the rest it takes from its neighbours, as the /t/ of "too" is rounded and that of "tea" spread.
    """

    name: str
    pose: Pose
    closes: bool
    strength: float
    reach: float
    jaw: float
    lips: float
    shape: float


# strength, reach in s, jaw, lips, shape
_BEHAVIOUR = {
    REST: (1.0, 0.15, 1.0, 1.0, 1.0),
    "pp": (4.0, 0.07, 1.0, 1.0, 0.2),
    "ff": (4.0, 0.08, 1.0, 1.0, 0.3),
    "th": (1.2, 0.08, 0.8, 0.8, 0.2),
    "dd": (0.7, 0.08, 0.6, 0.6, 0.1),
    "nn": (0.6, 0.09, 0.5, 0.5, 0.1),
    "kk": (0.6, 0.09, 0.3, 0.3, 0.05),
    "ch": (1.5, 0.11, 0.7, 0.8, 0.95),
    "ss": (1.2, 0.10, 0.9, 0.8, 0.5),
    "rr": (1.0, 0.11, 0.6, 0.6, 0.8),
    "aa": (1.0, 0.14, 1.0, 1.0, 0.8),
    "ae": (1.0, 0.14, 1.0, 1.0, 0.9),
    "ah": (0.7, 0.12, 0.8, 0.8, 0.4),
    "eh": (1.0, 0.13, 1.0, 1.0, 0.9),
    "ih": (1.0, 0.12, 0.9, 0.9, 0.9),
    "oh": (1.2, 0.14, 1.0, 1.0, 1.0),
    "ou": (1.5, 0.15, 0.9, 0.9, 1.0),
}


def _pose(levels: str) -> Pose:
    pose = neutral()
    for name, level in (entry.split("=") for entry in levels.split()):
        for channel in (name,) if name in INDEX else (f"{name}Left", f"{name}Right"):
            pose[INDEX[channel]] = float(level)
    pose.setflags(write=False)
    return pose


VISEMES = MappingProxyType(
    {name: Viseme(name, _pose(levels), name in ("pp", "ff"), *_BEHAVIOUR[name]) for name, levels in _LEVELS.items()}
)
"""Every viseme by name; `rest` is the neutral mouth."""

_OF_PHONEME = {phoneme: (name,) for name, phonemes in _PHONEMES.items() for phoneme in phonemes.split()} | _GLIDING


def visemes_of(phoneme: str) -> tuple[str, ...]:
    """Names of the visemes of an ARPAbet phoneme, stress or not: one, or two of a vowel that glides."""
    return _OF_PHONEME[phoneme.rstrip("012")]


# --- how long -----------------------------------------------------------------------------------------------------

# Inherent and shortest duration in ms, after Klatt 1979 ("Synthesis by rule of segmental durations in English
# sentences"), rounded to 5 ms: dur = shortest + share * (inherent - shortest).
_DURATIONS = {
    "AA": (240, 100), "AE": (230, 80), "AH": (140, 60), "AO": (240, 100), "AW": (260, 100), "AY": (250, 150),
    "EH": (150, 70), "ER": (180, 80), "EY": (190, 100), "IH": (135, 40), "IY": (155, 55), "OW": (220, 80),
    "OY": (280, 150), "UH": (160, 60), "UW": (210, 70), "W": (80, 60), "Y": (80, 40), "R": (80, 30), "L": (80, 40),
    "HH": (80, 20), "M": (70, 60), "N": (60, 50), "NG": (95, 60), "F": (100, 80), "TH": (90, 60), "S": (105, 60),
    "SH": (105, 80), "V": (60, 40), "DH": (50, 30), "Z": (75, 40), "ZH": (70, 40), "P": (90, 50), "T": (75, 50),
    "K": (80, 60), "B": (85, 60), "D": (75, 50), "G": (80, 60), "CH": (120, 80), "JH": (110, 70),
}  # fmt: skip
_STRESSED, _UNSTRESSED, _CONSONANT, _BEFORE_PAUSE = 0.65, 0.3, 0.6, 1.4


def phoneme_seconds(phoneme: str, *, before_pause: bool = False) -> float:
    """How long a phoneme lasts in ordinary speech, in seconds; `before_pause`: in the last syllable before one."""
    inherent, shortest = _DURATIONS[phoneme.rstrip("012")]
    share = _CONSONANT
    if phoneme[-1].isdigit():
        share = _UNSTRESSED if phoneme[-1] == "0" else _STRESSED
    return (shortest + share * (inherent - shortest)) * (_BEFORE_PAUSE if before_pause else 1.0) / 1000.0

"""Whether cuts pop: the acceleration of the same keyframes played in peace and with a cut in the middle of each way."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kff_live.protocols import kernels
from kff_live.protocols.channels import COUNT, HIGH, LOW, SHAPES
from kff_live.protocols.frames import FrameRate
from kff_live.protocols.keyframes import Keyframe, as_acted
from kff_live.protocols.track import Timeline
from kff_live.runtime.bench.report import Row, Tell
from kff_live.runtime.player import Plan, Player, Settings

CUTS = 1000
RATE = FrameRate(60)
WORST = 1.5
"""Most that cuts may add, as a factor on p99 and on the maximum."""

OUT_OF_RANGE = 1e-3
"""How far a value may leave its range before the limit catches it: unseen, and no corner in the motion."""

UNLIMITED = Settings(low=np.full(COUNT, -9, np.float32), high=np.full(COUNT, 9, np.float32))
"""Nothing is cut off, so that what leaves its range shows."""

_MOVING = 1e-6  # of a channel a frame; below it a sample stands still


def keyframes(seed: int, count: int) -> list[Keyframe]:
    """Random keyframes with ways of 0.2 to 0.8 s, cubic in-out: about a quarter of the channels of each pose are up."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        pose = np.where(rng.random(COUNT) < 0.25, rng.random(COUNT), 0.0).astype(np.float32)
        pose[SHAPES:] *= rng.choice([-1.0, 1.0], COUNT - SHAPES).astype(np.float32)
        made.append(as_acted(Keyframe(pose, way=round(float(rng.uniform(0.2, 0.8)), 3))))
    return made


def play(keys: Sequence[Keyframe], *, seed: int, cut: bool) -> NDArray[np.float32]:
    """The poses at 60 fps, float32[frames, 61]: each keyframe is reached, or cut off by the next on its way."""
    rng = np.random.default_rng(seed)
    player = Player("Face", RATE, settings=UNLIMITED)
    player.use(kernels)
    plans: list[tuple[float, Plan]] = []
    at = 0.0
    if cut:
        for number, key in enumerate(keys, 1):
            plans.append((at, Plan(Timeline().append(key), at, number, settings=UNLIMITED)))
            at += key.way * float(rng.uniform(0.05, 0.95))
    else:
        timeline = Timeline()
        for key in keys:
            timeline.append(key)
        plans, at = [(0.0, Plan(timeline.track, 0.0, 1, settings=UNLIMITED))], timeline.end
    poses, following = [], 0
    for tick in range(int(at * RATE.hz)):
        now = tick * RATE.period
        while following < len(plans) and plans[following][0] <= now:
            player.plan = plans[following][1]
            following += 1
        poses.append(player.frame(now, tick, 0.0).pose)
    return np.array(poses)


def acceleration(poses: NDArray[np.float32]) -> NDArray[np.float64]:
    """Absolute second differences of the samples that move, a second squared."""
    steps = np.diff(poses.astype(np.float64), axis=0)
    moving = (np.abs(steps[1:]) > _MOVING) | (np.abs(steps[:-1]) > _MOVING)
    return np.asarray(np.abs(np.diff(steps, axis=0))[moving] * RATE.hz**2)


def pops(*, tell: Tell, seed: int = 1) -> list[Row]:
    """The rows of this part."""
    part = f"pops: acceleration with {CUTS} cuts, the same keyframes without them"
    tell("pops: playing the keyframes with and without cuts")
    keys = keyframes(seed, CUTS + 1)
    cut, peace = play(keys, seed=seed, cut=True), play(keys, seed=seed, cut=False)
    a, b = acceleration(cut), acceleration(peace)
    rows = []
    for what, value, reference in (
        ("p99", np.percentile(a, 99), np.percentile(b, 99)),
        ("maximum", a.max(), b.max()),
    ):
        rows.append(
            Row(
                part=part,
                what=what,
                value=float(value),
                unit="/s2",
                reference=float(reference),
                reference_is="without cuts",
                target=f"ratio <= {WORST:g}",
                met=bool(value <= WORST * reference),
            )
        )
    beyond = float(max((cut - HIGH).max(), (LOW - cut).max(), 0.0))
    rows.append(
        Row(
            part=part,
            what="farthest out of range, before it is limited",
            value=beyond,
            target="<= 0.001",
            met=beyond <= OUT_OF_RANGE,
        )
    )
    return rows

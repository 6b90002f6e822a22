"""Keyframes for one segment of text: the model's pieces parsed as they come, and cut at a segment's limits."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from kff_live.protocols.keyframe_text import DIALECTS, MAX_KEYFRAMES
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.generator import Generator

_log = logging.getLogger(__name__)

SEGMENT_SECONDS = 12.0
"""Longest motion of one segment."""


async def write_keyframes(
    generator: Generator, request: PromptInput, *, dialect: str, seed: int = 0, attempt: int = 0
) -> AsyncGenerator[Keyframe, None]:
    """The keyframes of a text as soon as each is complete; at most MAX_KEYFRAMES, and SEGMENT_SECONDS together.

    The model is cancelled when the caller stops or a limit is reached.

    Raises:
        GeneratorDied: the model went away.
        GeneratorError: this text cannot be answered.
    """
    parser = DIALECTS[dialect].parser()
    count, seconds = 0, 0.0
    async with aclosing(generator.stream(request, seed=seed, attempt=attempt)) as pieces:
        async for piece in pieces:
            for keyframe in parser.feed(piece):
                count += 1
                if count == 1:
                    way = min(keyframe.way, SEGMENT_SECONDS)
                    keyframe = replace(keyframe, way=way, hold=min(keyframe.hold, SEGMENT_SECONDS - way))
                seconds += keyframe.way + keyframe.hold
                if count > MAX_KEYFRAMES or seconds > SEGMENT_SECONDS:
                    return
                yield keyframe
    parser.close()
    for error in parser.errors:
        _log.info("the model's text: %s", error)

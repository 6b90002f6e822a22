"""Keyframes for one segment of text: the model's pieces parsed as they come, and cut at a segment's limits."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from kff_live.protocols.errors import GeneratorDied
from kff_live.protocols.keyframe_text import DIALECTS, MAX_KEYFRAMES
from kff_live.protocols.keyframes import Keyframe
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.model.generator import Generator

_log = logging.getLogger(__name__)

SEGMENT_SECONDS = 12.0
"""Longest motion of one segment."""


_ATTEMPTS = 2  # a text in flight when the generator dies is tried once more


async def write_keyframes(
    generator: Generator, request: PromptInput, *, dialect: str, seed: int = 0
) -> AsyncGenerator[Keyframe, None]:
    """The keyframes of a text as soon as each is complete; at most MAX_KEYFRAMES, and SEGMENT_SECONDS together.

    The model is cancelled when the caller stops or a limit is reached. When it dies the text is tried once more; the
    seed is the same, so keyframes that the first attempt gave are skipped.

    Raises:
        GeneratorDied: the model went away twice.
        GeneratorError: this text cannot be answered.
    """
    taken = 0
    for attempt in range(_ATTEMPTS):
        position = 0
        try:
            async with aclosing(
                _write_once(generator, request, dialect=dialect, seed=seed, attempt=attempt)
            ) as keyframes:
                async for keyframe in keyframes:
                    position += 1
                    if position > taken:
                        taken = position
                        yield keyframe
            return
        except GeneratorDied as error:
            if attempt + 1 == _ATTEMPTS:
                raise
            _log.warning("%s; trying once more", error)


async def _write_once(
    generator: Generator, request: PromptInput, *, dialect: str, seed: int, attempt: int
) -> AsyncGenerator[Keyframe, None]:
    """One attempt; `attempt` counts from 0."""
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

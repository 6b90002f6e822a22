"""The generator process: started, killed, started again, cancelled; with the embedded model."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from kff_live.protocols.errors import GeneratorDied, UserError
from kff_live.protocols.keyframe_text import CompactParser
from kff_live.protocols.prompt import PromptInput
from kff_live.runtime.model.generator_wire import EngineSettings
from kff_live.runtime.model.llama_process import LlamaProcess

DEADLINE = 60.0


def with_process(
    path: Path, use: Callable[[LlamaProcess], Coroutine[None, None, None]], *, stall_seconds: float = 30.0
) -> None:
    async def main() -> None:
        process = LlamaProcess(EngineSettings(str(path), sequences=2), stall_seconds=stall_seconds)
        async with asyncio.timeout(DEADLINE):
            life = asyncio.create_task(process.run())
            try:
                await use(process)
            finally:
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)

    asyncio.run(main())


async def whole(process: LlamaProcess, text: str, *, attempt: int = 0) -> str:
    return "".join([piece async for piece in process.stream(PromptInput(text=text), attempt=attempt)])


def keyframes(text: str) -> int:
    parser = CompactParser()
    found = parser.feed(text)
    assert parser.errors == []
    return len(found)


def test_a_text_is_answered_in_pieces_by_a_process_of_lower_priority(smollm2_path: Path) -> None:
    async def use(process: LlamaProcess) -> None:
        pieces = [piece async for piece in process.stream(PromptInput(text="The kettle sings."))]
        assert len(pieces) > 3
        assert keyframes("".join(pieces)) >= 1
        assert process.state == "ready"
        assert process.last_stats is not None
        assert process.last_stats.tokens >= len(pieces)
        if sys.platform != "win32":
            assert psutil.Process(process.pid).nice() >= psutil.Process().nice() + 10 or psutil.Process().nice() > 9

    with_process(smollm2_path, use)


def test_a_killed_process_is_started_again_and_the_text_may_be_tried_once_more(smollm2_path: Path) -> None:
    async def use(process: LlamaProcess) -> None:
        first = await whole(process, "The moon is out.")
        with pytest.raises(GeneratorDied):
            async with aclosing(process.stream(PromptInput(text="The moon is out."))) as pieces:
                async for _ in pieces:
                    psutil.Process(process.pid).kill()
        assert await whole(process, "The moon is out.", attempt=1) == first
        assert process.restarts == 1

    with_process(smollm2_path, use)


def test_a_process_that_hangs_is_killed(smollm2_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("needs SIGSTOP")

    async def use(process: LlamaProcess) -> None:
        await process.wait_ready()
        psutil.Process(process.pid).suspend()
        with pytest.raises(GeneratorDied, match="silent"):
            await whole(process, "Is anybody there?")
        assert keyframes(await whole(process, "Is anybody there?", attempt=1)) >= 1

    with_process(smollm2_path, use, stall_seconds=1.0)


def test_a_closed_stream_is_cancelled_and_its_place_is_free(smollm2_path: Path) -> None:
    async def use(process: LlamaProcess) -> None:
        for _ in range(6):  # three times as many as there are sequences
            async with aclosing(process.stream(PromptInput(text="Once upon a time. " * 30))) as pieces:
                async for _piece in pieces:
                    break
        assert keyframes(await whole(process, "The end.")) >= 1

    with_process(smollm2_path, use)


def test_many_texts_at_once_are_all_answered(smollm2_path: Path) -> None:
    async def use(process: LlamaProcess) -> None:
        answers = await asyncio.gather(*(whole(process, f"Text number {i} of ten.") for i in range(10)))
        assert all(keyframes(answer) for answer in answers)

    with_process(smollm2_path, use)


def test_a_retry_is_answered_alone(smollm2_path: Path) -> None:
    async def use(process: LlamaProcess) -> None:
        await process.wait_ready()
        order: list[str] = []

        async def ask(name: str, attempt: int) -> None:
            request = PromptInput(text="A quiet day by the sea.")
            order.extend([name async for _ in process.stream(request, attempt=attempt)])

        await asyncio.gather(ask("a", 0), ask("retry", 1), ask("b", 0))
        runs = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
        assert runs.count("retry") == 1

    with_process(smollm2_path, use)


def test_a_stranger_without_the_secret_is_shut_out(smollm2_path: Path) -> None:
    async def use(process: LlamaProcess) -> None:
        await process.wait_ready()
        connections = [c for c in psutil.Process(process.pid).net_connections() if c.raddr]
        reader, writer = await asyncio.open_connection("127.0.0.1", connections[0].raddr.port)
        writer.write(b"\x00\x00\x00\x05hello")
        assert await reader.read() == b""
        writer.close()
        assert keyframes(await whole(process, "Still here.")) >= 1

    with_process(smollm2_path, use)


def test_a_model_that_cannot_be_loaded_is_the_users_mistake(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))

    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            await LlamaProcess(EngineSettings(str(broken))).run()

    with pytest.raises(UserError, match=r"broken\.gguf"):
        asyncio.run(main())

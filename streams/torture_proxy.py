"""A TCP proxy in front of Kafka that misbehaves on purpose: late, slow, half open, reset, or with an answer lost.

    client ──► Proxy(target) ──► broker        one asyncio loop, in a thread of its own

A client goes on to the address that a broker *advertises*: the proxy must listen on the advertised port of a listener
of its own (see `headrace.infra.embedded.kafka`, ``proxy_port``). An answer is found by its request: the proxy reads API
keys and correlation ids of what passes, four bytes of length before each.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

LOOPBACK = "127.0.0.1"
PRODUCE, END_TXN = 0, 26   # API keys
_LENGTH, _REQUEST, _CORRELATION = struct.Struct(">i"), struct.Struct(">hhi"), struct.Struct(">i")


@dataclass
class Fault:
    """What happens to the bytes that pass; may be changed at any time, by any thread.

    Attributes
    ----------
    delay_s : float
        Of everything, either way.
    bytes_per_s : float
        The pace of each direction; 0: none.
    drop_answers_to : set of int
        API keys. The next answer to one of them is lost, with its connection; each key once.
    reset_requests : set of int
        API keys. The connection of the next such request is reset in the middle of it; each key once.
    half_open : bool
        Nothing passes, nothing is closed.
    half_open_after_drop : bool
        Whether it is, from the next answer lost on.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    drop_answers_to: set[int] = field(default_factory=set)
    reset_requests: set[int] = field(default_factory=set)
    half_open: bool = False
    half_open_after_drop: bool = False


class Proxy:
    """A proxy in front of one broker; a context manager.

    Parameters
    ----------
    target : str
        host:port.
    port : int
        Where to listen on the loopback address; 0: any free one.

    Attributes
    ----------
    fault : Fault
    dropped, reset : int
        Answers lost and requests cut so far.
    """

    def __init__(self, target: str, port: int = 0) -> None:
        host, _, number = target.rpartition(":")
        self._target, self._wanted = (host, int(number)), port
        self.fault, self.dropped, self.reset = Fault(), 0, 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, LOOPBACK, self._wanted))
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """host:port, where it listens."""
        return f"{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    def reset_all(self) -> None:
        """Reset every connection."""
        self._call(self._abort())

    def _call(self, work: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _close(self) -> None:
        self._server.close()
        await self._abort()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await task

    async def _abort(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, out = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        ends, asked = (writer, out), {}   # correlation id -> API key
        self._writers.update(ends)
        try:
            await asyncio.gather(
                self._pass(reader, out, lambda frame: self._request(frame, asked)),
                self._pass(there, writer, lambda frame: self._answer(frame, asked)),
            )
        except (OSError, asyncio.IncompleteReadError, _Cut):
            pass
        finally:
            for end in ends:
                _reset(end)
            self._writers.difference_update(ends)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], int | None]
    ) -> None:
        """Pass requests or answers, whole, until one of them is where the connection ends."""
        while True:
            frame = await self._next(reader)
            if not frame:
                raise _Cut
            while self.fault.half_open:
                await asyncio.sleep(0.02)
            cut = look(frame)
            if self.fault.delay_s:
                await asyncio.sleep(self.fault.delay_s)
            if self.fault.bytes_per_s:
                await asyncio.sleep(len(frame) / self.fault.bytes_per_s)
            writer.write(frame if cut is None else frame[:cut])
            await writer.drain()
            if cut is not None:
                raise _Cut

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        length = await reader.readexactly(_LENGTH.size)
        return length + await reader.readexactly(_LENGTH.unpack(length)[0])

    def _request(self, frame: bytes, asked: dict[int, int]) -> int | None:
        """Remember what is asked; return after how many bytes the connection ends, if it does."""
        key, _, correlation = _REQUEST.unpack_from(frame, _LENGTH.size)
        asked[correlation] = key
        if key not in self.fault.reset_requests:
            return None
        self.fault.reset_requests.discard(key)
        self.reset += 1
        return len(frame) // 2

    def _answer(self, frame: bytes, asked: dict[int, int]) -> int | None:
        key = asked.pop(_CORRELATION.unpack_from(frame, _LENGTH.size)[0], None)
        if key not in self.fault.drop_answers_to:
            return None
        self.fault.drop_answers_to.discard(key)
        self.dropped += 1
        self.fault.half_open |= self.fault.half_open_after_drop
        return 0


class _Cut(Exception):
    """A connection ends here."""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: the other side learns at once, and what is under way is lost."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

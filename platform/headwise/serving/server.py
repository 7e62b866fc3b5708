"""Running the application: one process, one event loop, a clean end."""

import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from headwise.errors import HeadwiseError, InputError
from headwise.serving.telemetry import JsonLines

SECONDS_TO_FINISH = 30  # for requests under way when the server is asked to stop
MAX_MESSAGE = 1 << 20  # bytes of one message over a websocket
BACKLOG = 2048  # connections that the kernel holds while the loop is busy


def run(app: ASGIApp, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what it has begun.

    Prints one line with the address to standard output when it is ready; logs one JSON line a request to standard error.

    Args:
        app: what `create_app` gave.
        host: the address to listen on; `0.0.0.0` for every interface.
        port: 0 takes a free one.

    Raises:
        InputError: the address cannot be listened on.
        HeadwiseError: the application did not start; the log says why.
    """
    with _listening(host, port) as listener, _logging(), _quiet_signals():
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SECONDS_TO_FINISH,
            backlog=BACKLOG,
            ws_max_size=MAX_MESSAGE,
        )
        try:
            _Server(config, _address(listener)).run(sockets=[listener])
        except SystemExit as error:
            raise HeadwiseError("the server did not start; the lines above say why") from error


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"headwise is ready at {self._address}", flush=True)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"--host {host}: not an address of this machine ({error})") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}, port {port} ({error.strerror}); choose another --port"
            ) from error
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _logging() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    ours = [logging.getLogger("headwise"), logging.getLogger("uvicorn")]
    before = [(log.level, log.propagate) for log in ours]
    for log, level in zip(ours, (logging.INFO, logging.WARNING), strict=True):
        log.addHandler(handler)
        log.setLevel(level)
        log.propagate = False
    try:
        yield
    finally:
        for log, (level, propagate) in zip(ours, before, strict=True):
            log.removeHandler(handler)
            log.setLevel(level)
            log.propagate = propagate


@contextmanager
def _quiet_signals() -> Iterator[None]:
    # uvicorn raises the signal that stopped it once more at the end; an orderly stop is no failure, so nobody hears it.
    def ignore(number: int, frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

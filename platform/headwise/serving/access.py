"""Who may ask: API keys, and the origins whose pages a browser lets ask."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from headwise.errors import InputError
from headwise.serving.problems import Refusal, problem

KEYS = "HEADWISE_API_KEYS"
WATCHED = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")  # by what has no key
PAGES = ("/", "/docs", "/openapi.json")  # say nothing of what is served
OPEN = frozenset({*WATCHED, *PAGES})
SHORTEST = 16  # characters of a key
SEEN = ["x-request-id", "retry-after"]  # headers of an answer that a page of another origin may read


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        keys: SHA-256 of each key that opens; without any, everybody may ask.
        origins: whose pages may ask from a browser, such as `https://shop.example`; `*` is every one.
    """

    keys: frozenset[bytes] = frozenset()
    origins: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, *, key_file: Path | None = None, origins: Sequence[str] = (), environment: Mapping[str, str] = os.environ
    ) -> "Access":
        """From a file with a key a line (empty lines and those that begin with # aside), and HEADWISE_API_KEYS.

        Args:
            key_file: the file.
            origins: see `Access`.
            environment: where HEADWISE_API_KEYS is looked up: keys parted by commas.

        Raises:
            InputError: the file cannot be read or holds no key, a key is too short, or an origin is none.
        """
        keys = [key.strip() for key in environment.get(KEYS, "").split(",") if key.strip()]
        if key_file is not None:
            keys += _read(key_file)
        for key in keys:
            if len(key) < SHORTEST or not key.isascii() or any(map(str.isspace, key)):
                raise InputError(
                    f"an API key of {len(key)} characters: {SHORTEST} of ASCII without spaces are the least; "
                    "`openssl rand -hex 24` makes one"
                )
        for origin in origins:
            if origin != "*" and (not origin.startswith(("http://", "https://")) or origin.count("/") != 2):
                raise InputError(
                    f"--cors {origin}: an origin is scheme, host and port alone, such as https://shop.example"
                )
        return cls(frozenset(map(_digest, keys)), tuple(origins))

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind its gate."""
        gated = _SameOrigin(_Gate(app, self.keys) if self.keys else app, self.origins)
        if not self.origins:
            return gated
        return CORSMiddleware(
            gated, self.origins, allow_methods=["GET", "POST"], allow_headers=["*"], expose_headers=SEEN
        )


class _Gate:
    def __init__(self, app: ASGIApp, keys: frozenset[bytes]) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN or self._opens(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refusal = Refusal(
            401,
            "this server asks for an API key; send `Authorization: Bearer KEY`",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await _refuse(refusal, scope, receive, send)

    def _opens(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return _digest(given) in self._keys  # how long it takes tells of a digest, not of a key


class _SameOrigin:
    """Keeps websockets from pages of unknown origins, which no browser does by itself."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._known(Headers(scope=scope)):
            refusal = Refusal(403, "this server does not know the origin of the page that asks; name it with --cors")
            await _refuse(refusal, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _known(self, headers: Headers) -> bool:
        origin = headers.get("origin")  # only browsers send it
        own = origin is None or urlsplit(origin).netloc == headers.get("host")
        return own or origin in self._origins or "*" in self._origins


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem(refusal, scope)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(answer)
    else:
        await answer(scope, receive, send)


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a text file with an API key a line") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise InputError(f"{path}: holds no API key; write one a line")
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

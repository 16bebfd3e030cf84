"""Guard: who may ask what: hosts, origins, the token, sizes of requests, and the headers of every answer."""

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pharos.doors.web.bounds import BODY_S, LARGEST_BODY, LARGEST_UPLOAD, LONGEST_QUERY

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE, TOKEN = "pharos", "token"
# Beside the file itself a form has boundaries and names.
FORM_BYTES = 64 * 2**10
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guard:
    """An ASGI application around the page's own.

    Args:
        hosts: names that a request may call the server by; None for any address and loopback's names.
        token: what must be shown once; None on loopback.
        refused: makes the page of a refusal: (status, title, words) -> HTML.
    """

    def __init__(
        self, app: Any, hosts: frozenset[str] | None, token: str | None,
        refused: Callable[[int, str, str], bytes],
    ) -> None:  # fmt: skip
        self.app, self.hosts, self.token, self.refused = app, hosts, token, refused
        self.cookie = hashlib.sha256(f"pharos cookie {token}".encode()).hexdigest() if token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            # the page has no other kind of connection
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        wrong = self._wrong(scope, headers)
        if wrong is not None:
            await self._refuse(send, *wrong)
            return
        if self.token is not None and not scope["path"].startswith("/static/"):
            shown = self._shown(scope)
            if shown is not None:
                await self._admit(scope, send, shown)
                return
            if not self._known(headers):
                await self._refuse(
                    send,
                    401,
                    "A token is needed",
                    "Open the address that pharos ui printed when it started: it ends in ?token=. Came by a "
                    "link, after that? Then reload this page.",
                )
                return
        most = LARGEST_UPLOAD + FORM_BYTES if scope["path"] == "/upload" else LARGEST_BODY
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            await self._refuse(
                send, 413, "Too large", f"The page takes at most {most // 10**6 or 1} MB here."
            )
            return
        # a body that grows or lingers beyond its bounds raises in whoever reads it; the application tells it
        await self.app(scope, _Bounded(receive, most), self._with_headers(scope, send))

    def _wrong(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, str] | None:
        """Why a request is refused before anything is looked at."""
        if not self._is_host(headers.get("host", "")):
            return 421, "Unknown host", "This server answers under its own address only."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Not allowed", "The page knows GET and POST."
        if len(scope["query_string"]) > LONGEST_QUERY or len(scope["path"]) > 200:
            return 414, "Too long", "That address is longer than any question."
        site = headers.get("sec-fetch-site", "")
        if scope["method"] == "POST":
            origin = urlsplit(headers.get("origin", ""))
            if not origin.netloc or origin.netloc.lower() != headers.get("host", "").lower():
                return 403, "Refused", "That was sent from another page than this server's own."
        elif site == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            # another page's pictures and scripts must not make this machine work
            return 403, "Refused", "That was asked by another site's page."
        return None

    def _is_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if not name:
            return False
        if self.hosts is not None:
            return name in self.hosts
        if name in LOOPBACK:
            return True
        try:
            # a name could be rebound to this address by whoever owns it; an address cannot
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _shown(self, scope: Scope) -> bool | None:
        """Whether the query's token is right; None where it has none."""
        given = [v for k, v in parse_qsl(scope["query_string"].decode("latin-1")) if k == TOKEN]
        if not given or scope["method"] == "POST":
            return None
        return hmac.compare_digest(given[0].encode(), (self.token or "").encode())

    def _known(self, headers: dict[str, str]) -> bool:
        try:
            held = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return held is not None and hmac.compare_digest(held.value.encode(), self.cookie.encode())

    async def _admit(self, scope: Scope, send: Send, right: bool) -> None:
        """To the same address without its token, which stays in no history; with a cookie if it was right."""
        if not right:
            await self._refuse(send, 401, "Wrong token", "That is not the token that pharos ui printed.")
            return
        pairs = [(k, v) for k, v in parse_qsl(scope["query_string"].decode("latin-1")) if k != TOKEN]
        # one slash: two would lead to another host
        place = "/" + scope["path"].lstrip("/\\") + ("?" + urlencode(pairs) if pairs else "")
        cookie = f"{COOKIE}={self.cookie}; HttpOnly; SameSite=Strict; Path=/"
        sent = {**HEADERS, "location": place, "set-cookie": cookie, "cache-control": "no-store"}
        await _send(send, 303, b"", sent)

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def wrapped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {k.lower() for k, _ in message["headers"]}
                more = dict(HEADERS)
                if not scope["path"].startswith("/static/"):
                    more["cache-control"] = "no-store"
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in there),
                ]
            await send(message)

        return wrapped

    async def _refuse(self, send: Send, status: int, title: str, words: str) -> None:
        sent = {**HEADERS, "content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
        await _send(send, status, self.refused(status, title, words), sent)


async def _send(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    told = [(k.encode(), v.encode()) for k, v in (headers | {"content-length": str(len(body))}).items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


class TooLarge(Exception):
    """More came than may."""


class TooSlow(Exception):
    """The rest did not come in time."""


class _Bounded:
    """The body of a request, bounded in bytes and time, whatever its headers say."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.receive, self.left = receive, most
        self.until = asyncio.get_running_loop().time() + BODY_S
        self.whole = False

    async def __call__(self) -> MutableMapping[str, Any]:
        if self.whole:
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.until):
                message = await self.receive()
        except TimeoutError:
            raise TooSlow from None
        if message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            if self.left < 0:
                raise TooLarge
            self.whole = not message.get("more_body", False)
        return message

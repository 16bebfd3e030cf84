"""`pharos ui`: the local page."""

import errno
import ipaddress
import os
import socket
import sys
from typing import Annotated

import typer

from pharos.doors.cli.app import app
from pharos.quantity.errors import InputError


@app.command()
def ui(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; any but this machine's own needs the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8765,
    allow: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name that the page is called by; repeatable.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=64, help="Processes that answer; one a core if left out."),
    ] = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = False,
) -> None:
    """Serve the page on this machine: explore, compare, choose, plan serving and sharding, run labs."""
    try:
        import uvicorn

        from pharos.doors.web.app import create_app
        from pharos.doors.web.guard import LOOPBACK
    except ModuleNotFoundError as error:
        raise InputError(f"the page needs {error.name}", hint="pip install 'pharos-nn[web]'") from None
    local = host in LOOPBACK or _is_loopback(host)
    token = None if local else _token()
    hosts = frozenset((*LOOPBACK, host, *(allow or ()))) if local or allow else None
    listening = _listen(host, port)
    at = listening.getsockname()[1]
    made = create_app(hosts=hosts, token=token, workers=workers or max(1, min(8, os.cpu_count() or 1)))
    shown = f"http://{_shown(host)}:{at}/" + (f"?token={token}" if token else "")
    print(f"Pharos is at {shown}", flush=True)
    if not local:
        print("Whoever has this address can use it; it travels unencrypted.", file=sys.stderr, flush=True)
    if show:
        import webbrowser

        webbrowser.open(shown)
    server = uvicorn.Server(uvicorn.Config(
        made, log_level="warning", access_log=False, server_header=False, date_header=False, lifespan="on",
        timeout_keep_alive=15, timeout_graceful_shutdown=2, limit_concurrency=256, ws="none",
        h11_max_incomplete_event_size=32 * 1024, http="h11",
    ))  # fmt: skip
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()


def _token() -> str:
    import secrets

    return secrets.token_urlsafe(32)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(host: str) -> str:
    """The host as an address has it; one that means every address is shown as this machine's name."""
    if host in ("0.0.0.0", "::"):
        try:
            return socket.gethostbyname(socket.gethostname())
        except OSError:
            return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the address is taken, or none of this machine's.
    """
    made = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        # whoever asks before the workers are there waits, and is not turned away
        made.listen(1024)
    except OSError as error:
        if made is not None:
            made.close()
        why = error.strerror or str(error)
        hint = "--port 0 takes any that is free" if error.errno == errno.EADDRINUSE else ""
        raise InputError(f"cannot listen at {host} port {port}: {why}", hint=hint) from None
    return made

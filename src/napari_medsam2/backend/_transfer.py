"""One file over HTTP into a part on disk: resumed, stopped at any instant, and never taken for whole when it is not."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from napari_medsam2._files import write_text
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["Cancelled", "transfer"]

TIMEOUT_VARIABLE = "NAPARI_MEDSAM2_TIMEOUT"
"""The environment variable with the seconds after which a silent server is given up."""

_CHUNK = 1 << 18
_ATTEMPTS = 5
"""How often in a row a server may fail without a byte having arrived."""
_LONGEST_PAUSE = 8.0
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_NO_TLS = ("wrong version number", "record layer failure")
"""What OpenSSL says, up to 3.1 and from 3.2 on, of an answer in plain HTTP."""


class Cancelled(InputError):
    """The caller wanted no more; what has arrived is kept for the next time."""


class _InterruptedError(Exception):
    """The connection failed in a way that may pass; its message says how."""


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: Mapping[str, str]
    url: str
    shut: Callable[[], None]


def transfer(
    url: str,
    part: Path,
    size: int | None,
    verified: bool,
    progress: Callable[[int, int | None], None],
    cancelled: Callable[[], bool],
) -> None:
    """Bring a file here, going on from what ``part`` holds of it.

    Parameters
    ----------
    url : str
        ``http`` or ``https``; redirects are followed, but never from ``https`` to ``http``.
    part : Path
        Where it is written; what the server said of it is kept beside it, in ``part`` + ``.json``.
    size : int or None
        Bytes it must have, where they are known.
    verified : bool
        Whether a checksum will tell whether the file is right: then a part may be continued from another address.
    progress : callable
        Told the bytes that are there and the total, or None where the server does not say, some ten times a second.
    cancelled : callable
        Asked some ten times a second, on this thread.

    Raises
    ------
    Cancelled
        If ``cancelled`` said so.
    InputError
        If the file cannot be had from there.
    """
    failures, before = 0, -1
    while True:
        try:
            _attempt(url, part, size, verified, progress, cancelled)
            return
        except _InterruptedError as error:
            have = part.stat().st_size if part.exists() else 0
            failures = failures + 1 if have <= before else 1
            before = max(have, before)
            if failures >= _ATTEMPTS:
                raise InputError(
                    f"cannot download {url}: {error}, {failures} times in a row; "
                    "try again later (what has arrived is kept), or copy the file by hand (see docs/models.md)"
                ) from error
            _wait(min(0.5 * 2 ** (failures - 1), _LONGEST_PAUSE, _timeout()), cancelled, url)


def _timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise InputError(f"{TIMEOUT_VARIABLE} must be a number of seconds from 0 to 3600, not {text!r}")
    return seconds


def _wait(seconds: float, cancelled: Callable[[], bool], url: str) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if cancelled():
            raise _stopped(url)
        time.sleep(min(left, 0.1))


def _stopped(url: str) -> Cancelled:
    return Cancelled(
        f"the download of {url} was stopped; what has arrived is kept, and the next one goes on from there"
    )


def _notes(part: Path) -> dict[str, Any]:
    try:
        notes = json.loads(part.with_name(part.name + ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _attempt(
    url: str,
    part: Path,
    size: int | None,
    verified: bool,
    progress: Callable[[int, int | None], None],
    cancelled: Callable[[], bool],
) -> None:
    offset, notes = (part.stat().st_size if part.exists() else 0), _notes(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "napari-medsam2"}
    same = notes.get("url") == url and bool(notes.get("validator"))
    if offset and (same or verified):
        headers["Range"] = f"bytes={offset}-"
        if same and not verified:
            headers["If-Range"] = str(notes["validator"])
    else:
        offset = 0
    box: queue.Queue[Any] = queue.Queue(maxsize=8)
    stop = threading.Event()
    timeout = _timeout()
    reader = threading.Thread(target=_read, args=(url, headers, timeout, box, stop), daemon=True, name="download")
    reader.start()
    head: _Head | None = None
    try:
        head = _next(box, cancelled, timeout, url)
        offset, total = _judge(head, url, offset, size, part)
        write_text(
            part.with_name(part.name + ".json"),
            json.dumps({"url": url, "validator": _validator(head.headers), "total": total}),
        )
        _receive(box, part, offset, total, progress, cancelled, timeout, url)
    finally:
        stop.set()
        if head is not None:
            head.shut()
        with contextlib.suppress(queue.Empty):
            while True:
                box.get_nowait()


def _read(url: str, headers: dict[str, str], timeout: float, box: queue.Queue[Any], stop: threading.Event) -> None:
    """Put the answer's head, its bytes and None, or an exception, into the box; on a thread, since reads block."""
    import requests
    import urllib3

    def put(item: Any) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                box.put(item, timeout=0.1)
                return

    try:
        with requests.get(url, headers=headers, stream=True, timeout=(min(timeout, 15), timeout)) as response:
            raw = response.raw

            def shut() -> None:
                with contextlib.suppress(ValueError, RuntimeError, OSError):
                    raw.shutdown()

            put(_Head(response.status_code, dict(response.headers), response.url, shut))
            while not stop.is_set():
                chunk = raw.read1(_CHUNK, decode_content=False)
                put(chunk or None)
                if not chunk:
                    return
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        put(error)


def _next(box: queue.Queue[Any], cancelled: Callable[[], bool], timeout: float, url: str) -> Any:
    """Wait for the reader, as long as the caller wants and the server is not silent for too long."""
    begun = time.monotonic()
    while True:
        if cancelled():
            raise _stopped(url)
        try:
            item = box.get(timeout=0.1)
        except queue.Empty:
            # A little longer than the reader's own limit, so that its own words are heard.
            if time.monotonic() - begun > timeout + 1:
                raise _InterruptedError(f"the server was silent for {timeout:g} s") from None
            continue
        if isinstance(item, Exception) and (why := _lasting(item, url)) is not None:
            raise InputError(f"cannot download {url}: {why}") from item
        if isinstance(item, Exception):
            raise _InterruptedError(_brief(item)) from item
        return item


def _lasting(error: Exception, url: str) -> str | None:
    """Say why trying again is of no use; None where what went wrong may pass, as a handshake that was cut."""
    from requests.exceptions import InvalidProxyURL, InvalidSchema, InvalidURL, TooManyRedirects

    text = str(error)
    if isinstance(error, TooManyRedirects):
        return "it redirects in a circle; try again later"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its certificate is not trusted ({_brief(error)})"
    if any(words in text.lower() for words in _NO_TLS):
        return "the server, or the proxy on the way to it, speaks no TLS there; mend the address, or the proxy's"
    if isinstance(error, InvalidSchema) and "SOCKS" in text:
        return "a SOCKS proxy needs PySocks; run: pip install 'requests[socks]'"
    # An address of its own is looked at before there is a request.
    if isinstance(error, InvalidProxyURL) or (isinstance(error, InvalidURL) and error.request is not None):
        variable = f"{urlsplit(url).scheme}_proxy"
        names = (variable, variable.upper(), "all_proxy", "ALL_PROXY")
        where = next((name for name in names if os.environ.get(name)), "the system's settings")
        return f"the proxy in {where} is not a valid address; mend it, or take it away"
    if isinstance(error, InvalidURL | InvalidSchema):
        return "it is not a valid address"
    return None


def _brief(error: Exception) -> str:
    """An error of requests in a few words; theirs name every layer."""
    text = str(error)
    if "imed out" in text:
        return "the server was silent for too long"
    if "Name or service not known" in text or "getaddrinfo" in text or "name resolution" in text:
        return "the server's name is not known; is this machine online?"
    if "refused" in text:
        return "the server refused the connection"
    if "EOF occurred" in text:
        return "the connection was cut while it was being secured"
    return text.rsplit("(Caused by", 1)[-1].strip("() ")[:200] or type(error).__name__


def _judge(head: _Head, url: str, offset: int, size: int | None, part: Path) -> tuple[int, int | None]:
    """Where the bytes that follow belong, and how many there are in all."""
    if urlsplit(url).scheme == "https" and urlsplit(head.url).scheme != "https":
        raise InputError(f"cannot download {url}: it leads to an address without encryption; copy the file by hand")
    if head.status == 416 and offset:
        part.unlink(missing_ok=True)
        raise _InterruptedError("the server no longer has what had arrived")
    if head.status in _TEMPORARY:
        raise _InterruptedError(f"the server answered {head.status}")
    if head.status not in (200, 206):
        raise InputError(f"cannot download {url}: the server answered {head.status}; try again later, or copy the file")
    headers = {k.lower(): v for k, v in head.headers.items()}
    if headers.get("content-type", "").startswith("text/html"):
        raise InputError(
            f"cannot download {url}: a web page came instead of the file; open the address in a browser "
            "(it may ask for a login or for consent), and copy the file by hand (see docs/models.md)"
        )
    length = int(headers["content-length"]) if headers.get("content-length", "").isdigit() else None
    if head.status == 206:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("content-range", ""))
        if told is None or int(told[1]) != offset:
            part.unlink(missing_ok=True)
            raise _InterruptedError("the server sent another part than was asked for")
        total = None if told[2] == "*" else int(told[2])
    else:
        offset, total = 0, length
    if size is not None and total is not None and total != size:
        part.unlink(missing_ok=True)
        raise InputError(
            f"cannot download {url}: the file there has {total} bytes instead of {size}; it is another one"
        )
    return offset, total if total is not None else size


def _validator(headers: Mapping[str, str]) -> str:
    lowered = {k.lower(): v for k, v in headers.items()}
    tag = lowered.get("etag", "")
    # A weak tag does not promise the same bytes.
    return lowered.get("last-modified", "") if not tag or tag.startswith("W/") else tag


def _receive(
    box: queue.Queue[Any],
    part: Path,
    offset: int,
    total: int | None,
    progress: Callable[[int, int | None], None],
    cancelled: Callable[[], bool],
    timeout: float,
    url: str,
) -> None:
    told = 0.0
    have = offset
    with part.open("r+b" if offset else "wb") as stream:
        stream.seek(offset)
        stream.truncate()
        progress(have, total)
        while (chunk := _next(box, cancelled, timeout, url)) is not None:
            stream.write(chunk)
            have += len(chunk)
            if total is not None and have > total:
                stream.truncate(0)
                raise _InterruptedError("the server sent more than it had said")
            if time.monotonic() - told > 0.1:
                told = time.monotonic()
                progress(have, total)
    if total is not None and have < total:
        raise _InterruptedError(f"the connection ended after {have} of {total} bytes")
    progress(have, have if total is None else total)

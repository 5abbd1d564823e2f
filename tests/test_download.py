"""Getting files from servers that stall, break off, lie, or send something else."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import time
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from socketserver import BaseRequestHandler, TCPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_medsam2.backend import download, load_backend
from napari_medsam2.backend.registry import ModelEntry
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def archive(seed: int = 0, size: int = 600_000) -> bytes:
    """A zip file, as PyTorch's are, of incompressible bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("archive/data.pkl", np.random.default_rng(seed).bytes(size))
    return buffer.getvalue()


DATA = archive()
SHA = hashlib.sha256(DATA).hexdigest()
PAGE = b"<!DOCTYPE html><title>Please log in</title>"


@dataclass
class Server:
    """What a server does; ``log`` is what was asked of it: path and Range."""

    data: bytes = DATA
    ranges: bool = True
    etag: str = '"one"'
    tells_length: bool = True
    cuts: list[int] = field(default_factory=list)
    """After how many bytes of the body it hangs up, answer by answer; whole afterwards."""
    stalls: list[int] = field(default_factory=list)
    """After how many bytes it says no more, answer by answer."""
    statuses: list[int] = field(default_factory=list)
    page: bytes | None = None
    page_type: str = "text/html; charset=utf-8"
    redirects: dict[str, str] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)
    """Other files, by path."""
    log: list[tuple[str, str | None]] = field(default_factory=list)
    base: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.log.append((handler.path, asked))
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.end_headers()
            return
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.others.get(handler.path, self.data) if self.page is None else self.page
        start = 0
        condition = handler.headers.get("If-Range")
        if asked and self.ranges and condition in (None, self.etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                handler.send_response(416)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        body = body[start:]
        handler.send_header("ETag", self.etag)
        handler.send_header("Content-Type", "application/octet-stream" if self.page is None else self.page_type)
        if self.tells_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.stalls:
            handler.wfile.write(body[: self.stalls.pop(0)])
            handler.wfile.flush()
            self.over.wait(20)
            return
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                made.answer(self)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        made.base = f"http://127.0.0.1:{http.server_port}"
        yield made
        made.over.set()
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("NAPARI_MEDSAM2_TIMEOUT", "0.4")
    monkeypatch.setenv("NAPARI_MEDSAM2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def entry(server: Server) -> ModelEntry:
    return ModelEntry("tiny", "Tiny", f"{server.base}/a/tiny.pt", len(DATA), SHA, "Apache-2.0", "tests")


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if p != path and p.name != ".lock")


def test_a_file_is_downloaded_once_verified_and_found_again(entry: ModelEntry, server: Server, cache: Path) -> None:
    told: list[tuple[int, int | None]] = []
    assert not download.is_downloaded(entry)
    path = download.fetch(entry, lambda done, total: told.append((done, total)))
    assert path == cache / "tiny" / "tiny.pt" == download.target(entry)
    assert path.read_bytes() == DATA
    assert leftovers(path) == []
    assert told[0] == (0, len(DATA))
    assert told[-1] == (len(DATA), len(DATA))
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert download.is_downloaded(entry)
    assert download.fetch(entry) == download.locate(entry) == path
    assert len(server.log) == 1


@pytest.mark.parametrize("ranges", [True, False], ids=["resumes", "begins-again"])
@pytest.mark.parametrize("how", ["cuts", "stalls"])
def test_a_connection_that_breaks_off_or_falls_silent_is_taken_up_again(
    entry: ModelEntry, server: Server, ranges: bool, how: str
) -> None:
    server.ranges = ranges
    setattr(server, how, [250_000, 100_000])
    assert download.fetch(entry).read_bytes() == DATA
    asked = [r for _, r in server.log]
    assert asked[0] is None
    assert asked[1:] == ["bytes=250000-", f"bytes={350_000 if ranges else 100_000}-"]


def test_an_unverified_file_is_resumed_only_if_the_server_says_it_is_the_same(
    entry: ModelEntry, server: Server
) -> None:
    entry = replace(entry, sha256=None, size=None)
    server.cuts = [250_000]
    began = threading.Event()

    def change(done: int, total: int | None) -> None:
        # Between the first answer and the second the authors publish another file.
        if done and not began.is_set():
            began.set()
            server.data, server.etag = archive(1), '"two"'

    assert download.fetch(entry, change).read_bytes() == server.data
    assert [r for _, r in server.log] == [None, "bytes=250000-"]


def test_without_a_length_the_whole_body_counts_and_the_size_is_checked(entry: ModelEntry, server: Server) -> None:
    server.tells_length = False
    totals: list[int | None] = []
    free = replace(entry, name="free", size=None)
    assert download.fetch(free, lambda _, total: totals.append(total)).read_bytes() == DATA
    assert totals[0] is None
    assert totals[-1] == len(DATA)
    server.cuts = [1000]
    assert download.fetch(entry).read_bytes() == DATA
    assert len(server.log) == 3


def test_a_server_that_fails_for_a_while_is_asked_again(entry: ModelEntry, server: Server) -> None:
    server.statuses = [503, 429]
    assert download.fetch(entry).read_bytes() == DATA
    assert len(server.log) == 3


def refused(entry: ModelEntry, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        download.fetch(entry)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    path = download.target(entry)
    assert not path.exists()
    assert not download.is_downloaded(entry)


def test_a_server_that_never_delivers_is_given_up(entry: ModelEntry, server: Server) -> None:
    server.statuses = [503] * 9
    refused(entry, "answered 503", "5 times in a row", "by hand")
    assert len(server.log) == 5


def test_a_silent_server_is_given_up_soon(entry: ModelEntry, server: Server) -> None:
    server.stalls = [0] * 9
    begun = time.monotonic()
    refused(entry, "silent", "5 times in a row")
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_file_that_is_not_there_is_asked_for_once(entry: ModelEntry, server: Server, status: int) -> None:
    server.statuses = [status] * 9
    refused(entry, f"answered {status}")
    assert len(server.log) == 1


def test_nobody_at_the_address(entry: ModelEntry) -> None:
    refused(replace(entry, url="http://127.0.0.1:9/tiny.pt"), "refused the connection")


class Curt(TCPServer):
    """Says its one answer to everyone, whatever it heard, and hangs up."""

    answer = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self.heard: list[bytes] = []

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.heard.append(request.recv(4096))
        request.sendall(self.answer)


@pytest.fixture
def curt(entry: ModelEntry) -> Iterator[tuple[Curt, ModelEntry]]:
    with Curt() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made, replace(entry, url=f"https://127.0.0.1:{made.server_address[1]}/tiny.pt")
        made.shutdown()
        thread.join()


def test_a_handshake_that_is_cut_is_tried_again(curt: tuple[Curt, ModelEntry]) -> None:
    server, entry = curt
    with pytest.raises(InputError, match=r"the connection was cut.*5 times in a row"):
        download.fetch(entry)
    assert len(server.heard) == 5


def test_a_server_without_tls_is_said_to_be_one(curt: tuple[Curt, ModelEntry]) -> None:
    server, entry = curt
    server.answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    refused(entry, "speaks no TLS")
    assert len(server.heard) == 1


@pytest.mark.parametrize(
    ("variable", "proxy", "words"),
    [
        pytest.param(
            "HTTPS_PROXY",
            "socks5://127.0.0.1:9",
            "pip install 'requests[socks]'",
            marks=pytest.mark.skipif(find_spec("socks") is not None, reason="PySocks is here"),
        ),
        ("HTTPS_PROXY", "http://", "the proxy in HTTPS_PROXY is not a valid address"),
        ("https_proxy", "ftp://127.0.0.1:9", "the proxy in https_proxy is not a valid address"),
        ("ALL_PROXY", "http://127.0.0.1:99999", "the proxy in ALL_PROXY is not a valid address"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(
    entry: ModelEntry, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str, words: str
) -> None:
    for name in ("https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, proxy)
    refused(replace(entry, url="https://example.invalid/tiny.pt"), words)


def test_an_address_that_is_none(entry: ModelEntry) -> None:
    refused(replace(entry, url="https://example.invalid:99999/tiny.pt"), "tiny.pt: it is not a valid address")


def test_redirects_are_followed_with_the_range(entry: ModelEntry, server: Server) -> None:
    server.redirects = {"/a/tiny.pt": "/b", "/b": f"{server.base}/c?signed=1"}
    server.cuts = [200_000]
    assert download.fetch(entry).read_bytes() == DATA
    assert [log for log in server.log if log[0].startswith("/c")] == [
        ("/c?signed=1", None),
        ("/c?signed=1", "bytes=200000-"),
    ]


def test_redirects_in_a_circle(entry: ModelEntry, server: Server) -> None:
    server.redirects = {"/a/tiny.pt": "/b", "/b": "/a/tiny.pt"}
    refused(entry, "circle")


@pytest.mark.parametrize("told", [True, False], ids=["said-to-be-html", "said-to-be-a-file"])
@pytest.mark.parametrize("verified", [True, False])
def test_a_web_page_is_not_taken_for_the_file(entry: ModelEntry, server: Server, told: bool, verified: bool) -> None:
    server.page = PAGE
    if not told:
        server.page_type = "application/octet-stream"
    if not verified:
        entry = replace(entry, size=None, sha256=None)
    size_tells = verified and not told
    refused(entry, f"has {len(PAGE)} bytes instead of" if size_tells else "web page")
    assert leftovers(download.target(entry)) == []


@pytest.mark.parametrize(("size", "words"), [(None, ("SHA-256", "thrown away")), (len(DATA), ("bytes instead of",))])
def test_another_file_is_refused(entry: ModelEntry, server: Server, size: int | None, words: tuple[str, ...]) -> None:
    server.data = archive(3, 500_000)
    refused(replace(entry, size=size), *words)
    assert leftovers(download.target(entry)) == []


def test_what_is_no_file_of_weights_is_refused_even_without_a_checksum(entry: ModelEntry, server: Server) -> None:
    server.data = b"GIF89a" + bytes(1000)
    refused(replace(entry, size=None, sha256=None), "not a file of weights")


def test_a_stopped_download_goes_on_from_where_it_was(entry: ModelEntry, server: Server) -> None:
    server.stalls = [300_000]
    here: list[int] = []
    begun = time.monotonic()
    with pytest.raises(download.Cancelled, match="goes on from there"):
        download.fetch(entry, lambda done, _: here.append(done), lambda: bool(here) and here[-1] > 0)
    assert time.monotonic() - begun < 2
    assert not download.is_downloaded(entry)
    assert leftovers(download.target(entry)) == ["tiny.pt.part", "tiny.pt.part.json"]
    assert download.fetch(entry).read_bytes() == DATA
    assert server.log[1][1] is not None
    assert server.log[1][1] != "bytes=0-"


def test_no_thread_outlives_a_stopped_download(entry: ModelEntry, server: Server) -> None:
    server.stalls = [10]
    with pytest.raises(download.Cancelled):
        download.fetch(entry, cancelled=lambda: bool(server.log))
    end = time.monotonic() + 5
    while any(t.name == "download" for t in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_file_without_a_published_checksum_is_pinned_at_the_first_download(entry: ModelEntry, server: Server) -> None:
    entry = replace(entry, sha256=None, size=None)
    assert download.pinned(entry) is None
    path = download.fetch(entry)
    assert download.pinned(entry) == SHA
    assert path.with_name("tiny.pt.sha256").read_text() == f"{SHA}  tiny.pt\n"
    path.write_bytes(archive(5))
    with pytest.raises(InputError, match="first downloaded"):
        download.locate(entry)
    # Damage is mended, as the server still has the same file.
    assert download.fetch(entry).read_bytes() == DATA
    path.unlink()
    server.data = archive(6)
    refused(entry, "first downloaded", "delete", "tiny.pt.sha256")


def test_a_damaged_file_is_noticed_and_replaced(entry: ModelEntry, server: Server) -> None:
    path = download.fetch(entry)
    damaged = bytearray(DATA)
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"damaged.*models get tiny"):
        download.locate(entry)
    assert download.fetch(entry).read_bytes() == DATA
    assert len(server.log) == 2
    path.write_bytes(DATA[:100])
    assert not download.is_downloaded(entry)
    with pytest.raises(InputError, match=r"has 100 bytes instead of"):
        download.locate(entry)


def test_a_file_that_was_copied_by_hand_needs_no_network(entry: ModelEntry, server: Server) -> None:
    with pytest.raises(InputError, match=r"not on this machine.*models get tiny.*or copy tiny\.pt to"):
        download.locate(entry)
    path = download.target(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert download.is_downloaded(entry)
    assert download.fetch(entry) == path
    assert server.log == []


def tensors() -> bytes:
    from safetensors.numpy import save

    return save({"a": np.random.default_rng(2).random(50_000)}, {"format": "pt"})


@pytest.mark.parametrize("data", [DATA, tensors()], ids=["zip", "safetensors"])
def test_a_copy_that_is_under_way_is_not_taken_for_the_file_ever_after(entry: ModelEntry, data: bytes) -> None:
    entry = replace(entry, sha256=None, size=None)
    path = download.target(entry)
    path.parent.mkdir(parents=True)
    for length in (20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"not whole; run .*models get tiny.*or copy tiny\.pt there once more"):
            download.locate(entry)
        assert leftovers(path) == []
    path.write_bytes(data)
    assert download.locate(entry) == path
    assert download.pinned(entry) == hashlib.sha256(data).hexdigest()


def test_a_pin_of_another_file_is_named(entry: ModelEntry) -> None:
    entry = replace(entry, sha256=None, size=None)
    path = download.target(entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(archive(1))
    download.locate(entry)
    path.write_bytes(DATA)
    with pytest.raises(InputError, match=r"first downloaded.*delete \S+tiny\.pt\.sha256"):
        download.locate(entry)
    path.with_name("tiny.pt.sha256").unlink()
    assert download.locate(entry) == path


def test_what_ends_early_without_a_length_is_not_kept(entry: ModelEntry, server: Server) -> None:
    server.tells_length = False
    server.cuts = [300_000]
    entry = replace(entry, sha256=None, size=None)
    refused(entry, "not whole", "thrown away")
    assert leftovers(download.target(entry)) == []
    assert download.fetch(entry).read_bytes() == DATA


def test_offline_nothing_is_asked(entry: ModelEntry, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_MEDSAM2_OFFLINE", "1")
    refused(entry, "forbidden", "copy tiny.pt to")
    assert server.log == []


def test_mirrors_are_tried_first_and_are_not_trusted(
    entry: ModelEntry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_MEDSAM2_MIRRORS", f"{server.base}/none {server.base}/mirror/")
    server.statuses = [404]
    assert download.fetch(entry).read_bytes() == DATA
    assert [p for p, _ in server.log] == ["/none/tiny.pt", "/mirror/tiny.pt"]
    # A mirror with another file of the same length is passed over.
    download.target(entry).unlink()
    server.log.clear()
    server.others = {"/mirror/tiny.pt": archive(7)}
    assert len(server.others["/mirror/tiny.pt"]) == len(DATA)
    monkeypatch.setenv("NAPARI_MEDSAM2_MIRRORS", f"{server.base}/mirror")
    assert download.fetch(entry).read_bytes() == DATA
    assert [p for p, _ in server.log] == ["/mirror/tiny.pt", "/a/tiny.pt"]


def test_two_programs_do_not_write_one_file(entry: ModelEntry, server: Server) -> None:
    server.stalls = [1000]
    failures: list[str] = []
    seen = threading.Event()

    def other() -> None:
        try:
            download.fetch(entry)
        except InputError as error:
            failures.append(str(error))
        seen.set()

    def progress(done: int, total: int | None) -> None:
        if done and not failures and not seen.is_set():
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    assert download.fetch(entry, progress).read_bytes() == DATA
    assert len(failures) == 1
    assert "downloading 'tiny' already" in failures[0]


def test_a_folder_that_cannot_be_written(
    entry: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("NAPARI_MEDSAM2_CACHE", str(blocked))
    with pytest.raises(InputError, match=r"cannot write .*NAPARI_MEDSAM2_CACHE"):
        download.fetch(entry)
    assert server.log == []


def test_a_model_that_needs_more_than_the_disk_has(entry: ModelEntry, server: Server) -> None:
    refused(replace(entry, size=10**15), "has room for", "make room")
    assert server.log == []


def test_a_timeout_that_is_no_number(entry: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_MEDSAM2_TIMEOUT", "soon")
    refused(entry, "NAPARI_MEDSAM2_TIMEOUT", "'soon'")


def test_loading_never_downloads(server: Server) -> None:
    with pytest.raises(InputError, match=r"models get sam2\.1-hiera-tiny"):
        load_backend("sam2.1-hiera-tiny", "cpu")
    assert server.log == []

"""The list of models: what is published, what a person adds, and the command that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_medsam2 import cli, load_backend
from napari_medsam2.backend import download, registry
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_MEDSAM2_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("NAPARI_MEDSAM2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config").mkdir()
    return tmp_path


def own(folders: Path, text: str) -> None:
    (folders / "config" / "models.toml").write_text(text)


def test_the_published_models_are_all_there() -> None:
    entries = {e.name: e for e in registry.entries()}
    sizes = ("tiny", "small", "base-plus", "large")
    assert {f"sam{v}-hiera-{s}" for v in ("2", "2.1") for s in sizes} | {"medsam-2", "medsam2", "edgetam"} <= set(
        entries
    )
    assert len({e.file for e in entries.values()}) == len(entries)
    for entry in entries.values():
        assert entry.url.startswith("https://")
        assert entry.licence
        assert entry.use
        assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32
    assert entries["medsam-2"].sha256 == "059572b072eff2e41975bf85b0dcca96bc58889db60a89e9f5b1f075236735d7"
    assert entries["medsam2"].input_size == 512
    assert registry.entry("edgetam").network == "edgetam"


def test_a_persons_own_models(folders: Path) -> None:
    own(
        folders,
        """
        [[model]]
        name = "liver"
        url = "https://example.org/weights/liver%20v2.pt"
        sha256 = "AB{zeros}"
        size = 5
        input_size = 512
        licence = "CC0"
        use = "livers"

        [[model]]
        name = "mine"
        path = "files/mine.safetensors"
        """.replace("{zeros}", "0" * 62),
    )
    liver, mine = registry.entries()[-2:]
    assert (liver.file, liver.sha256, liver.title, liver.input_size) == ("liver v2.pt", "ab" + "0" * 62, "liver", 512)
    assert download.target(liver) == folders / "cache" / "liver" / "liver v2.pt"
    assert mine.path == download.target(mine) == folders / "config" / "files" / "mine.safetensors"
    assert not download.is_downloaded(mine)
    with pytest.raises(InputError, match=r"mine.*nothing is there"):
        load_backend("mine", "cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[model]\n", "not valid TOML"),
        ("model = 3", "nothing but [[model]]"),
        ("[other]\n", "nothing but [[model]]"),
        ("[[model]]\nname = 'a'", "either a url or a path"),
        ("[[model]]\nname = 'a'\nurl = 'https://x.org/a.pt'\npath = 'a.pt'", "either a url or a path"),
        ("[[model]]\nname = 'A b'\npath = 'a.pt'", "small letters"),
        ("[[model]]\nname = 'liver.pt'\npath = 'a.pt'", "does not end in .pt"),
        ("[[model]]\nname = 'a'\npath = '~nobody-of-that-name/a.pt'", "write ~nobody-of-that-name/a.pt in full"),
        ("[[model]]\nname = 3\npath = 'a.pt'", "name must be text"),
        ("[[model]]\nname = 'a'\nurl = 'ftp://x.org/a.pt'", "https://"),
        ("[[model]]\nname = 'a'\nurl = 'https://x.org/'", "a file's name"),
        ("[[model]]\nname = 'a'\nurl = 'https://[x.org/a.pt'", "https://"),
        ("[[model]]\nname = 'a'\nurl = 'https://x.org/..%2F..%2Fnotes.txt'", "a file's name"),
        ("[[model]]\nname = 'a'\nurl = 'https://x.org/..%5Cnotes.txt'", "a file's name"),
        ("[[model]]\nname = 'a'\nurl = 'https://x.org/a.pt%00'", "a file's name"),
        ("[[model]]\nname = 'a'\nurl = 'https://x.org/..'", "a file's name"),
        ("[[model]]\nname = 'a'\nurl = 'https://x.org/%2E?download=true'", "a file's name"),
        ("[[model]]\nname = 'a'\npath = 'a.pt'\nsha256 = 'abc'", "64 hexadecimal digits"),
        ("[[model]]\nname = 'a'\npath = 'a.pt'\nsize = '5'", "size must be a whole number"),
        ("[[model]]\nname = 'a'\npath = 'a.pt'\nsize = -5", "size must be the file's bytes"),
        ("[[model]]\nname = 'a'\npath = 'a.pt'\ninput_size = 500", "multiple of 32"),
        ("[[model]]\nname = 'a'\npath = 'a.pt'\nnetwork = 'sam3'", "network must be one of sam2, edgetam"),
        ("[[model]]\nname = 'a'\npath = 'a.pt'\ncolour = 'red'", "unknown key 'colour'"),
        ("[[model]]\nname = 'compact'\npath = 'a.pt'", "is taken"),
        ("[[model]]\nname = 'medsam2'\npath = 'a.pt'", "is taken"),
        ("[[model]]\nname = 'a'\npath = 'a.pt'\n[[model]]\nname = 'a'\npath = 'b.pt'", "model 2"),
    ],
)
def test_a_list_that_makes_no_sense_is_named(folders: Path, text: str, words: str) -> None:
    own(folders, text)
    with pytest.raises(InputError) as caught:
        registry.entries()
    message = str(caught.value)
    assert words in message
    assert "models.toml" in message
    assert "\n" not in message


def test_a_list_that_was_written_on_windows(folders: Path) -> None:
    (folders / "config" / "models.toml").write_text("[[model]]\nname = 'mine'\npath = 'a.pt'\n", encoding="utf-8-sig")
    assert registry.entry("mine").file == "a.pt"


def test_nobodys_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nobody's home folder is known as ~nobody-of-that-name"):
        load_backend("~nobody-of-that-name/a.pt", "cpu")
    monkeypatch.setenv("NAPARI_MEDSAM2_CACHE", "~nobody-of-that-name/models")
    with pytest.raises(InputError, match="~nobody-of-that-name/models in full"):
        load_backend("edgetam", "cpu")


def test_an_unknown_name_is_guessed_at() -> None:
    with pytest.raises(InputError, match=r"did you mean 'sam2\.1-hiera-tiny'"):
        load_backend("sam21-hiera-tiny", "cpu")
    with pytest.raises(InputError, match=r"unknown model 'resnet'; 'napari-medsam2 models' lists all"):
        load_backend("resnet", "cpu")


def test_a_folder_here_does_not_hide_the_model_of_its_name(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    for name in ("medsam2", "finetuned"):
        (folders / name).mkdir()
    with pytest.raises(InputError, match="run 'napari-medsam2 models get medsam2'"):
        load_backend("medsam2", "cpu")
    # Written as a folder, or of no model's name, it is meant itself.
    for folder in ("./medsam2", str(folders / "medsam2"), "finetuned"):
        with pytest.raises(InputError, match=r"config\.json"):
            load_backend(folder, "cpu")


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(list(args))
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_table_says_what_is_here(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "config" / "mine.pt").write_bytes(b"")
    own(folders, "[[model]]\nname = 'mine'\npath = 'mine.pt'\nuse = 'my cells'\nlicence = 'secret'")
    code, out, err = run(capsys, "models")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert list(rows)[:2] == ["name", "compact"]
    assert "156 MB" in rows["sam2.1-hiera-tiny"]
    assert "Apache-2.0" in rows["sam2.1-hiera-tiny"]
    assert "research and education only" in rows["medsam2"]
    assert " yes " in rows["mine"]
    assert "my cells" in rows["mine"]
    assert " no " in rows["edgetam"]


def test_get_and_path(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "path")
    assert (code, out.strip()) == (0, str(folders / "cache"))
    code, out, _ = run(capsys, "models", "path", "edgetam")
    assert (code, out.strip()) == (0, str(folders / "cache" / "edgetam" / "edgetam.pt"))
    code, out, err = run(capsys, "models", "get", "--offline", "edgetam")
    assert code == 2
    assert err.count("\n") == 1
    assert "not on this machine" in err
    code, _, err = run(capsys, "models", "get", "edgetan")
    assert code == 2
    assert "did you mean 'edgetam'" in err
    code, out, _ = run(capsys, "models", "get", "compact")
    assert (code, out) == (0, "compact: in the package\n")

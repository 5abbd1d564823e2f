"""The published models: where each is from, how it is verified, and what it is good for; and a person's own entries.

Addresses are those that the authors' download scripts and pages give. The SHA-256 of SAM 2's, SAM 2.1's and EdgeTAM's
files are those that several public projects pin (among them micro-sam's registry); MedSAM-2's is public as well. Where
no checksum is published the file's own is written down at the first download, and holds from then on.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from napari_medsam2._files import expanded
from napari_medsam2.backend._checkpoint_file import SUFFIXES
from napari_medsam2.errors import InputError

__all__ = ["ModelEntry", "Network", "Variant", "entries", "entry", "published", "user_file"]

Network = Literal["sam2", "edgetam"]
Variant = Literal["tiny", "small", "base-plus", "large", "edge"]

CONFIG_VARIABLE = "NAPARI_MEDSAM2_CONFIG"
"""The environment variable that names another folder for `user_file`."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"(?!\.{1,2}$)[^/\\\0]+")
_NOMINAL = {"tiny": 156, "small": 184, "base-plus": 324, "large": 898, "edge": 56}
_SIDES = range(128, 2049, 32)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be got and loaded by name.

    Parameters
    ----------
    name : str
        What ``load_backend`` and ``--model`` take: small letters, digits, ``.``, ``_`` and ``-``.
    title : str
        For people.
    url : str
        The file's address; empty for one that is on this machine already, at ``path``.
    size : int or None
        Bytes of the file, where they are known.
    sha256 : str or None
        Of the file, 64 hexadecimal digits; None: written down at the first download.
    licence : str
        Of the weights.
    use : str
        What it is good for, in a few words.
    input_size : int or None
        Side in pixels of the square that it was trained to see; None: what a folder says of itself, else 1024.
    network : str
        ``"sam2"`` or ``"edgetam"``.
    variant : str or None
        The image encoder's size; None: found from the weights.
    path : Path or None
        A file or a folder on this machine.
    """

    name: str
    title: str
    url: str
    size: int | None
    sha256: str | None
    licence: str
    use: str
    input_size: int | None = 1024
    network: Network = "sam2"
    variant: Variant | None = None
    path: Path | None = None

    @property
    def file(self) -> str:
        """The file's name, as published."""
        if self.path is not None:
            return self.path.name
        return _last_part(self.url)

    @property
    def size_text(self) -> str:
        """The file's size for people, such as ``156 MB``; ``about 156 MB`` where only the network's size is known."""
        if self.size is not None:
            return f"{self.size / 1e6:.0f} MB"
        nominal = _NOMINAL.get(self.variant or "")
        return "unknown" if nominal is None else f"about {nominal} MB"


def _last_part(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _meta(version: str, folder: str, variant: Variant, file: str, size: int, sha256: str) -> ModelEntry:
    use = {
        "tiny": "general images; the fastest SAM 2",
        "small": "general images",
        "base-plus": "general images; slow without a GPU",
        "large": "general images; the most accurate, for a GPU",
    }[variant]
    return ModelEntry(
        name=f"sam{version}-hiera-{variant}",
        title=f"SAM {version} Hiera {variant.title()}",
        url=f"https://dl.fbaipublicfiles.com/segment_anything_2/{folder}/{file}.pt",
        size=size,
        sha256=sha256,
        licence="Apache-2.0",
        use=use,
        variant=variant,
    )


def _toronto(name: str, file: str, use: str) -> ModelEntry:
    return ModelEntry(
        name=name,
        title=f"MedSAM2 ({file})",
        url=f"https://huggingface.co/wanglab/MedSAM2/resolve/main/{file}",
        size=None,
        sha256=None,
        licence="CC-BY-SA-4.0, research and education only",
        use=use,
        input_size=512,
        variant="tiny",
    )


_PUBLISHED = (
    _meta(
        "2.1",
        "092824",
        "tiny",
        "sam2.1_hiera_tiny",
        156_008_466,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    ),
    _meta(
        "2.1",
        "092824",
        "small",
        "sam2.1_hiera_small",
        184_416_285,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    ),
    _meta(
        "2.1",
        "092824",
        "base-plus",
        "sam2.1_hiera_base_plus",
        323_606_802,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    ),
    _meta(
        "2.1",
        "092824",
        "large",
        "sam2.1_hiera_large",
        898_083_611,
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    ),
    _meta(
        "2",
        "072824",
        "tiny",
        "sam2_hiera_tiny",
        155_906_050,
        "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
    ),
    _meta(
        "2",
        "072824",
        "small",
        "sam2_hiera_small",
        184_309_650,
        "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
    ),
    _meta(
        "2",
        "072824",
        "base-plus",
        "sam2_hiera_base_plus",
        323_493_298,
        "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
    ),
    _meta(
        "2",
        "072824",
        "large",
        "sam2_hiera_large",
        897_952_466,
        "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
    ),
    ModelEntry(
        name="medsam-2",
        title="Medical SAM 2 (Zhu et al.)",
        url="https://huggingface.co/jiayuanz3/MedSAM2_pretrain/resolve/main/MedSAM2_pretrain.pth",
        size=None,
        sha256="059572b072eff2e41975bf85b0dcca96bc58889db60a89e9f5b1f075236735d7",
        licence="see its page; the code is Apache-2.0",
        use="medical images, 2-D and 3-D, from one prompt",
    ),
    _toronto("medsam2", "MedSAM2_latest.pt", "CT, MRI, PET, ultrasound, endoscopy; the authors' recommendation"),
    _toronto("medsam2-2411", "MedSAM2_2411.pt", "as medsam2, the base model of November 2024"),
    _toronto("medsam2-ct-lesion", "MedSAM2_CTLesion.pt", "lesions in CT"),
    _toronto("medsam2-mri-liver-lesion", "MedSAM2_MRI_LiverLesion.pt", "liver lesions in MRI"),
    _toronto("medsam2-us-heart", "MedSAM2_US_Heart.pt", "the heart in ultrasound videos"),
    _toronto("medsam2-flare25", "medsam2_FLARE25_RECIST_baseline.pt", "tumours in CT, from a diameter's box"),
    ModelEntry(
        name="edgetam",
        title="EdgeTAM",
        url="https://github.com/facebookresearch/EdgeTAM/raw/main/checkpoints/edgetam.pt",
        size=56_116_523,
        sha256="ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
        licence="Apache-2.0",
        use="general images; light, for machines without a GPU",
        network="edgetam",
        variant="edge",
    ),
)


def user_file() -> Path:
    """Where a person's own entries are: ``models.toml`` in the configuration folder; it need not exist.

    `CONFIG_VARIABLE` in the environment names another folder.
    """
    folder = os.environ.get(CONFIG_VARIABLE)
    if folder:
        return expanded(folder) / "models.toml"
    import platformdirs

    return platformdirs.user_config_path("napari-medsam2", appauthor=False) / "models.toml"


def entries() -> list[ModelEntry]:
    """All models that can be got by name: the published ones, then a person's own.

    Raises
    ------
    InputError
        If the person's file cannot be read or says something that does not make sense.
    """
    return [*_PUBLISHED, *_own_entries(user_file())]


def published() -> list[ModelEntry]:
    """The published models, which no mistake in a person's file takes away."""
    return list(_PUBLISHED)


def entry(name: str) -> ModelEntry:
    """Look an entry up.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    known = published()
    if all(one.name != name for one in known):
        known = entries()
    for one in known:
        if one.name == name:
            return one
    import difflib

    names = [e.name for e in known]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"unknown model {name!r}; {hint}'napari-medsam2 models' lists all")


def _own_entries(path: Path) -> list[ModelEntry]:
    try:
        # Editors on Windows put a mark before the text, which TOML does not know.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list of your own models, {path}: {error}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}; mend it, or move it away") from error
    tables = data.get("model", [])
    if set(data) - {"model"} or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise InputError(f"{path} must hold nothing but [[model]] tables; see docs/models.md")
    taken = {e.name for e in _PUBLISHED} | {"compact"}
    found = []
    for number, table in enumerate(tables, start=1):
        try:
            one = _parse(table, path.parent)
            if one.name in taken:
                raise InputError(f"the name {one.name!r} is taken; choose another")
        except InputError as error:
            raise InputError(f"{path}, model {number}: {error}") from error
        taken.add(one.name)
        found.append(one)
    return found


def _is_address(url: str) -> bool:
    """Whether a file can be downloaded from there, as far as the words tell."""
    try:
        # Separators may be written as %2F or %5C: what is downloaded must lie in the model's own folder, on any system.
        return urlsplit(url).scheme in ("http", "https") and bool(_FILE.fullmatch(_last_part(url)))
    except ValueError:
        # A bracket that is not closed.
        return False


def _parse(table: dict[str, Any], folder: Path) -> ModelEntry:
    known = {f.name for f in fields(ModelEntry)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    for key, value in table.items():
        wanted: type = int if key in ("size", "input_size") else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise InputError(f"{key} must be {'a whole number' if wanted is int else 'text'}, not {value!r}")
    name, url = table.get("name", ""), table.get("url", "")
    if not _NAME.fullmatch(name):
        raise InputError(f"name must be small letters, digits, '.', '_' and '-', not {name!r}")
    if name.endswith(SUFFIXES):
        raise InputError(f"{name!r} would be taken for a file; choose a name that does not end in {Path(name).suffix}")
    if bool(url) == ("path" in table):
        raise InputError(f"{name!r} needs either a url or a path")
    if url and not _is_address(url):
        raise InputError(f"the url must begin with https:// and end with a file's name, not be {url!r}")
    sha256 = table.get("sha256", "").lower() or None
    if sha256 is not None and not _HASH.fullmatch(sha256):
        raise InputError("sha256 must be 64 hexadecimal digits")
    for key, choices in (("network", get_args(Network)), ("variant", get_args(Variant))):
        if key in table and table[key] not in choices:
            raise InputError(f"{key} must be one of {', '.join(choices)}, not {table[key]!r}")
    side = table.get("input_size")
    if side is not None and side not in _SIDES:
        raise InputError(f"input_size must be a multiple of 32 from 128 to 2048, not {side}")
    if table.get("size", 1) < 1:
        raise InputError(f"size must be the file's bytes, not {table['size']}")
    # A relative path is one beside the list itself.
    path = folder / expanded(table["path"]) if "path" in table else None
    return ModelEntry(
        name=name,
        title=table.get("title", name),
        url=url,
        size=table.get("size"),
        sha256=sha256,
        licence=table.get("licence", "not stated"),
        use=table.get("use", "your own"),
        input_size=side,
        network=table.get("network", "sam2"),
        variant=table.get("variant"),
        path=path,
    )

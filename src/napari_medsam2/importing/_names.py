"""Names and colours of objects, from wherever a format keeps them."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from napari_medsam2.errors import InputError
from napari_medsam2.export._pictures import TABLE_FILE
from napari_medsam2.export._source import KEY, ObjectEntry, parse_color, parse_table
from napari_medsam2.export._tiff import COLOR_NAMESPACE, NAME_NAMESPACE
from napari_medsam2.reading.nifti import NIFTIS
from napari_medsam2.reading.pictures import pillow_image
from napari_medsam2.reading.readers import reason

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["known_objects"]


def known_objects(path: Path) -> dict[int, ObjectEntry]:
    """Read the names and colours that a file of labels holds; empty where it holds none.

    Parameters
    ----------
    path : Path
        A TIFF, NIfTI or PNG, the folder of an OME-Zarr, or a folder of pictures.
    """
    name = path.name.lower()
    try:
        if path.is_dir():
            return _of_folder(path)
        if name.endswith((".tif", ".tiff", ".btf", ".tf8")):
            return _of_tiff(path)
        if name.endswith(NIFTIS):
            return _of_nifti(path)
        if name.endswith(".png"):
            return _of_png(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot read the names of the objects in {path.name}: {reason(error)}") from error
    return {}


def _of_folder(path: Path) -> dict[int, ObjectEntry]:
    if (path / TABLE_FILE).is_file():
        return parse_table(json.loads((path / TABLE_FILE).read_text(encoding="utf-8")))
    for file in ("zarr.json", ".zattrs"):
        if (path / file).is_file():
            return _of_zarr(json.loads((path / file).read_text(encoding="utf-8")))
    found: dict[int, ObjectEntry] = {}
    for picture in sorted(path.glob("*.png")):
        found |= _of_png(picture)
    return found


def _of_zarr(group: Any) -> dict[int, ObjectEntry]:
    attributes = group.get("attributes", group)
    label = attributes.get("ome", attributes).get("image-label", {})
    found: dict[int, ObjectEntry] = {}
    for item in label.get("properties", ()):
        value = item.get("label-value")
        if isinstance(value, int) and value > 0:
            found[value] = ObjectEntry(value, str(item.get("name") or f"object {value}"))
    for item in label.get("colors", ()):
        value, rgba = item.get("label-value"), item.get("rgba")
        if isinstance(value, int) and value > 0 and isinstance(rgba, list) and len(rgba) >= 3:
            name = found[value].name if value in found else f"object {value}"
            found[value] = ObjectEntry(value, name, (int(rgba[0]), int(rgba[1]), int(rgba[2])))
    return dict(sorted(found.items()))


def _of_tiff(path: Path) -> dict[int, ObjectEntry]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        if tif.shaped_metadata:
            return parse_table(tif.shaped_metadata[0].get(KEY))
        return _of_ome(tif.ome_metadata) if tif.ome_metadata else {}


def _of_ome(xml: str) -> dict[int, ObjectEntry]:
    names: dict[int, str] = {}
    colors: dict[int, str] = {}
    for annotation in ElementTree.fromstring(xml).iter():  # noqa: S314
        kept = {NAME_NAMESPACE: names, COLOR_NAMESPACE: colors}.get(annotation.get("Namespace", ""))
        if kept is None:
            continue
        for item in annotation.findall("{*}Value/{*}M"):
            key = item.get("K", "")
            if key.isdigit() and int(key) > 0:
                kept[int(key)] = item.text or ""
    return {
        label: ObjectEntry(label, names.get(label) or f"object {label}", parse_color(colors.get(label)))
        for label in sorted({*names, *colors})
    }


def _of_nifti(path: Path) -> dict[int, ObjectEntry]:
    import nibabel

    image: Any = nibabel.load(path)
    for extension in getattr(image.header, "extensions", ()):
        text = extension.get_content()
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        if "<CaretExtension" in text:
            return _of_caret(text.rstrip("\x00").strip())
        try:
            found = json.loads(text.rstrip("\x00"))
        except ValueError:
            continue
        if isinstance(found, dict) and KEY in found:
            return parse_table(found[KEY])
    return {}


def _of_caret(text: str) -> dict[int, ObjectEntry]:
    """Read the table of labels that Connectome Workbench and TotalSegmentator write into NIfTI files."""
    found: dict[int, ObjectEntry] = {}
    try:
        labels = list(ElementTree.fromstring(text.encode()).iter("Label"))  # noqa: S314
    except ElementTree.ParseError:
        # Names are welcome, the labels are what counts.
        return {}
    for item in labels:
        key = item.get("Key", "")
        if not key.isdecimal() or int(key) == 0:
            continue
        with contextlib.suppress(ValueError, OverflowError):
            red, green, blue = (round(255 * float(item.get(name, ""))) for name in ("Red", "Green", "Blue"))
            color = (red, green, blue) if min(red, green, blue) >= 0 and max(red, green, blue) <= 255 else None
            found[int(key)] = ObjectEntry(int(key), (item.text or "").strip() or f"object {key}", color)
    return dict(sorted(found.items()))


def _of_png(path: Path) -> dict[int, ObjectEntry]:
    with pillow_image(path) as picture:
        text = picture.info.get(KEY)
    return parse_table(json.loads(text)) if isinstance(text, str) else {}

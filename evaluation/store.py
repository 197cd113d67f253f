"""A results folder: every file in it is complete or absent, whenever the process dies."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from foolart.evaluation.sources import Images


class Damaged(Exception):
    """A file of results whose content is not what was written."""


class Store:
    """Reads and writes a results folder.

    Args:
        folder: The folder; it is made when something is first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.units = folder / "units"
        self.images = folder / "images"

    def write_bytes(self, path: Path, content: bytes) -> None:
        """Write a file by renaming a complete one to its place.

        Raises:
            OSError: If the disk is full or the folder cannot be written; nothing is left behind.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the folder, atomically."""
        self.write_bytes(self.folder / name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder, atomically."""
        self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the folder.

        Raises:
            Damaged: If it is no JSON.
            FileNotFoundError: If there is none.
        """
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise Damaged(f"{self.folder / name}: {error}") from error

    def write_unit(self, name: str, body: dict[str, Any]) -> None:
        """Write the result of a work unit, with a checksum on its first line.

        A result that says it is ``broken`` goes to a file of its own: it can be reported, but the
        unit does not count as finished.
        """
        text = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        content = hashlib.sha256(text).hexdigest().encode() + b"\n" + text
        self.write_bytes(self._broken(name) if body["broken"] else self._unit(name), content)

    def read_unit(self, name: str) -> dict[str, Any] | None:
        """The result of a work unit, or what is known of a broken one; None if there is nothing.

        Raises:
            Damaged: If the file is not what :meth:`write_unit` wrote.
        """
        for path in (self._unit(name), self._broken(name)):
            text = self._checked(path)
            if text is not None:
                body: dict[str, Any] = json.loads(text)
                return body
        return None

    def is_sound(self, name: str) -> bool:
        """Whether a work unit has a result, and it is what :meth:`write_unit` wrote."""
        try:
            return self._checked(self._unit(name)) is not None
        except Damaged:
            return False

    def _checked(self, path: Path) -> bytes | None:
        try:
            checksum, _, text = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if hashlib.sha256(text).hexdigest().encode() != checksum:
            raise Damaged(f"{path} is damaged")
        return text

    def finished(self) -> set[str]:
        """The names of all work units that have a result, damaged or not."""
        if not self.units.is_dir():
            return set()
        with os.scandir(self.units) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def drop_unit(self, name: str) -> None:
        """Put a unit's damaged file aside, so that it is computed again."""
        path = self._unit(name)
        if path.exists():
            os.replace(path, path.with_suffix(".damaged"))

    def clean(self) -> None:
        """Remove the unfinished files that killed processes left behind."""
        for folder in (self.folder, self.units, self.images):
            for path in folder.glob(".*.[0-9]*"):
                path.unlink(missing_ok=True)

    def write_png(self, name: str, image: Images) -> str:
        """Write an image ``(C, H, W)`` and read it back.

        Returns:
            Its path within the folder; empty if it has no PNG, as with two channels.

        Raises:
            Damaged: If the file does not hold exactly these pixels.
        """
        from PIL import Image

        if len(image) not in (1, 3, 4):
            return ""
        pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
        content = io.BytesIO()
        # Fast rather than small: the images of a run must not cost more than a sliver of it.
        Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG", compress_level=1)
        path = self.images / f"{name}.png"
        self.write_bytes(path, content.getvalue())
        with Image.open(path) as file:
            if not np.array_equal(np.asarray(file), pixels):
                raise Damaged(f"{path} does not hold the pixels that were written")
        return f"images/{name}.png"

    def read_png(self, path: str) -> Images:
        """The pixels ``(C, H, W)`` of an image that :meth:`write_png` wrote.

        Raises:
            Damaged: If the file is missing or no image.
        """
        from PIL import Image

        try:
            with Image.open(self.folder / path) as file:
                pixels = np.asarray(file)
        except (OSError, SyntaxError) as error:
            raise Damaged(f"{self.folder / path} cannot be read ({error})") from error
        return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)

    def _unit(self, name: str) -> Path:
        return self.units / f"{name}.json"

    def _broken(self, name: str) -> Path:
        return self.units / f"{name}.broken"


def slug(*parts: Any) -> str:
    """A file name from several texts, another one for other texts.

    Special characters are replaced, and what is too long is cut off; a hash of the texts then tells
    apart what has become alike, such as ``step -1`` and ``step 1``, or two names in Cyrillic.
    """
    given = [str(part) for part in parts if part]
    text = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") for part in given)
    if text == "_".join(given) and len(text) <= 180:
        return text
    return f"{text[:160]}_{hashlib.sha256(repr(given).encode()).hexdigest()[:12]}"

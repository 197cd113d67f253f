"""Images in files, and how they are brought to one shape."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foolart.evaluation.sources import Images, Labels, channels_first

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """How images are brought to one shape.

    Attributes:
        size: Resize the short side to this and crop the middle, or None to take them as they are.
        squeeze: Resize to this width and height instead, whatever the proportions.
        mode: ``RGB``, ``L`` for grey, or None for each image's own.
    """

    size: int | None = None
    squeeze: tuple[int, int] | None = None
    mode: str | None = "RGB"

    def pixels(self, image: Any) -> Images:
        """The pixels ``(C, H, W)`` of an image of Pillow.

        Raises:
            ValueError: If it has more than 8 bits a channel.
        """
        if self.mode is not None:
            image = image.convert(self.mode)
        if self.squeeze is not None:
            image = image.resize(self.squeeze)
        if self.size is not None:
            image = _crop(image, self.size)
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8:
            raise ValueError(f"expected 8 bits a channel, got {pixels.dtype} pixels")
        whole: Images = channels_first(pixels[None])[0]
        return whole


class Files:
    """Image files with known labels, all of one shape after resizing.

    Args:
        paths: The files.
        labels: Their classes.
        picture: How to bring them to shape.
        numbered: See :class:`foolart.evaluation.data.Data`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Labels,
        picture: Picture | None = None,
        numbered: int | None = None,
    ) -> None:
        self._paths, self.labels, self.numbered = list(paths), labels, numbered
        self._picture = picture or Picture()
        self._shape = self._read(self._paths[0]).shape

    def images(self, start: int, stop: int) -> Images:
        """See :class:`foolart.evaluation.data.Data`."""
        images = [self._read(path) for path in self._paths[start:stop]]
        for path, image in zip(self._paths[start:stop], images, strict=True):
            if image.shape != self._shape:
                raise ValueError(
                    f"image {path} has shape {image.shape}, but {self._paths[0]} has "
                    f"{self._shape}: choose one size for all, as in "
                    f'"{path.parent}(size={min(self._shape[-2:])})"'
                )
        return np.stack(images)

    def _read(self, path: Path) -> Images:
        from PIL import Image

        try:
            with Image.open(path) as file:
                return self._picture.pixels(file)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"image {path} cannot be read ({error}): repair it, or take it out of the data"
            ) from error


def folder(
    path: Path, size: int | None = None, mode: str | None = "RGB", labels: str = "labels.csv"
) -> Files:
    """A folder of images, with a table of labels or one subfolder a class.

    Raises:
        ValueError: If there are no images, or the table does not fit them.
    """
    table = path / labels
    if table.is_file():
        paths, numbers = _table(path, table)
        return Files(paths, np.asarray(numbers, dtype=np.int64), Picture(size, None, mode))
    if labels != "labels.csv":
        raise ValueError(f"data {path}: no table {labels!r} in it")
    classes = sorted(p for p in path.iterdir() if p.is_dir())
    found = [
        (file, number)
        for number, subfolder in enumerate(classes)
        for file in sorted(subfolder.iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise ValueError(
            f"data {path}: no images with labels: expected a table {labels} with columns "
            f"file,label, or one subfolder a class with files {', '.join(SUFFIXES)}"
        )
    order = np.asarray([number for _, number in found], dtype=np.int64)
    return Files([p for p, _ in found], order, Picture(size, None, mode), len(classes))


def _table(path: Path, table: Path) -> tuple[list[Path], list[int]]:
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "label"} <= rows[0].keys():
        raise ValueError(f"{table}: expected the columns file,label and at least one row")
    paths, labels = [], []
    for number, row in enumerate(rows, start=2):
        try:
            labels.append(int(row["label"]))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{table}, line {number}: expected an integer label, got {row['label']!r}"
            ) from error
        paths.append(path / row["file"])
        if not paths[-1].is_file():
            raise ValueError(f"{table}, line {number}: no such file {row['file']!r} in {path}")
    return paths, labels


def _crop(image: Any, size: int) -> Any:
    from PIL import Image

    width, height = image.size
    scale = size / min(width, height)
    shape = max(size, round(width * scale)), max(size, round(height * scale))
    image = image.resize(shape, Image.Resampling.BICUBIC)
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    return image.crop((left, top, left + size, top + size))

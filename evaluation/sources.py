"""Images in arrays and npz files, and what all images have to be."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# What reading a damaged npz file raises.
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError)

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Arrays:
    """Images in memory, ``uint8`` or floats in [0, 1] on the 8-bit grid, channels last or first.

    Raises:
        ValueError: If they are no 8-bit images, or labels do not fit.
    """

    numbered: int | None = None

    def __init__(self, name: str, images: Any, labels: Any) -> None:
        self._name = name
        self._images = np.asarray(images)
        self.labels = check_labels(name, np.asarray(labels), len(self._images))
        check_shape(name, self._images.shape)

    def images(self, start: int, stop: int) -> Images:
        """See :class:`foolart.evaluation.data.Data`."""
        return channels_first(to_uint8(self._name, self._images[start:stop]))


class Npz:
    """An ``npz`` file, streamed: only the rows asked for are ever in memory.

    Args:
        path: The file; it is read without pickle.
        images: Name of the array of images ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``.
        labels: Name of the array of labels ``(N,)``.

    Raises:
        ValueError: For a missing or damaged file, an unknown array, or a wrong dtype or shape.
    """

    numbered: int | None = None

    def __init__(self, path: Path, images: str = "images", labels: str = "labels") -> None:
        self._name = str(path)
        if not path.is_file():
            raise ValueError(f"data {path}: no such file (in {Path.cwd()})")
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"data {path}: not an npz file ({error})") from error
        names = [name[:-4] for name in self._zip.namelist() if name.endswith(".npy")]
        for argument, array in (("images", images), ("labels", labels)):
            if array not in names:
                held = f"holds {', '.join(names)}" if names else "is empty"
                raise ValueError(
                    f"data {path}: no array {array!r}: it {held}; choose with {argument}=NAME, as "
                    f'in "{path.name}({argument}={(names or [array])[0]})"'
                )
        try:
            self._file: Any = self._zip.open(f"{images}.npy")
            version = np.lib.format.read_magic(self._file)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
            self._shape, fortran, self._dtype = read(self._file)
            self._offset = self._file.tell()
            with np.load(path, allow_pickle=False) as arrays:
                classes = arrays[labels]
        except (*DAMAGE, ValueError) as error:
            raise ValueError(f"data {path}: cannot be read ({error}): write it again") from error
        check_shape(self._name, self._shape)
        if fortran or self._dtype.hasobject:
            raise ValueError(f"data {path}: array {images!r} must be C-ordered numbers")
        self.labels = check_labels(self._name, classes, self._shape[0])

    def images(self, start: int, stop: int) -> Images:
        """See :class:`foolart.evaluation.data.Data`."""
        row = int(np.prod(self._shape[1:])) * self._dtype.itemsize
        try:
            self._file.seek(self._offset + start * row)
            content = self._file.read((stop - start) * row)
        except DAMAGE as error:
            raise ValueError(f"data {self._name}: damaged file ({error})") from error
        if len(content) != (stop - start) * row:
            raise ValueError(f"data {self._name}: damaged file (ends before row {stop})")
        rows = np.frombuffer(content, dtype=self._dtype).reshape(stop - start, *self._shape[1:])
        return channels_first(to_uint8(self._name, rows))


def check_labels(name: str, labels: Any, count: int) -> Labels:
    """Labels as ``int64`` ``(N,)``.

    Raises:
        ValueError: For another dtype, shape or number.
    """
    if labels.dtype.kind not in "iu":
        raise ValueError(f"data {name}: expected integer labels, got {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(
            f"data {name}: expected labels of shape ({count},), one an image, got {labels.shape}; "
            "a single image has the shape (1, H, W, C), its label (1,)"
        )
    checked: Labels = labels.astype(np.int64)
    return checked


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Refuse arrays that are no batch of images.

    Raises:
        ValueError: For an empty batch or a wrong number of axes.
    """
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            f"data {name}: expected images of shape (N, H, W), (N, H, W, C) or (N, C, H, W), got "
            f"{tuple(shape)}"
        )


def to_uint8(name: str, images: Any) -> Images:
    """Images as 8 bits.

    Raises:
        ValueError: If they are neither ``uint8`` nor floats in [0, 1] on the grid k/255.
    """
    if images.dtype == np.uint8:
        return np.asarray(images)
    if images.dtype.kind != "f":
        raise ValueError(f"data {name}: expected uint8 images, got {images.dtype}: save as uint8")
    smallest, largest = images.min(), images.max()  # NaN if there is any
    if not (smallest >= 0 and largest <= 1):
        raise ValueError(
            f"data {name}: expected float images within [0, 1] and without NaN, got values from "
            f"{smallest} to {largest}: save the images as uint8"
        )
    levels = images * 255.0
    if np.abs(levels - np.rint(levels)).max() > 1e-2:
        raise ValueError(
            f"data {name}: expected originals on the 8-bit grid k/255, got values between levels: "
            "round them and save them as uint8"
        )
    rounded: Images = np.rint(levels).astype(np.uint8)
    return rounded


def channels_first(images: Images) -> Images:
    """``(N, H, W)`` or ``(N, H, W, C)`` as ``(N, C, H, W)``; already so is left alone."""
    if images.ndim == 3:
        images = images.reshape(len(images), 1, *images.shape[1:])
        return images
    first, last = (images.shape[axis] in (1, 3, 4) for axis in (1, -1))
    # Where both ends could be channels, images are taken to be square.
    if last and not (first and images.shape[2] == images.shape[3]):
        images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return images

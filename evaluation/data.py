"""Data by name: 8-bit images with labels, read shard by shard."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import foolbox
import numpy as np

from foolart.evaluation import hubs
from foolart.evaluation.files import Files, Picture, folder
from foolart.evaluation.sources import Arrays, Images, Labels, Npz
from foolart.evaluation.specs import Spec, call, import_object, nearest

ROWS = 64  # Images in memory while they are hashed.
FOOLBOX = ("imagenet", "cifar10", "cifar100", "mnist", "fashionMNIST")


class Data(Protocol):
    """A labelled set of 8-bit images that is never held in memory as a whole.

    Attributes:
        labels: The classes, ``(N,)``.
        numbered: How many classes there are, if they were numbered here because the source only
            had names; None if the labels are the source's own.
    """

    labels: Labels
    numbered: int | None

    def images(self, start: int, stop: int) -> Images:
        """The images of some rows, ``(stop - start, C, H, W)``.

        Raises:
            ValueError: If an image cannot be read, or has another shape than the rest.
        """
        ...


class Part:
    """Some rows of a data set, under a name.

    Args:
        label: What tables call it.
        data: The whole.
        start: First row.
        stop: Row after the last.
    """

    def __init__(self, label: str, data: Data, start: int, stop: int) -> None:
        self.label, self.start = label, start
        self._data = data
        self.labels = data.labels[start:stop]
        self.numbered = data.numbered

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def images(self, start: int, stop: int) -> Images:
        """The images of some rows of this part, ``(stop - start, C, H, W)``."""
        return self._data.images(self.start + start, self.start + stop)

    @functools.cached_property
    def hashes(self) -> list[str]:
        """What :func:`image_hash` gives for each image; reads all of them once."""
        return [
            image_hash(image, label)
            for start in range(0, len(self), ROWS)
            for image, label in zip(
                self.images(start, min(start + ROWS, len(self))),
                self.labels[start : start + ROWS].tolist(),
                strict=True,
            )
        ]


def load_data(what: Spec | str) -> Part:
    """Open a data set by its specification; images are read later, shard by shard.

    Args:
        what: ``foolbox:imagenet`` (20 samples, ``size=224``) or another of Foolbox's sample sets;
            an ``npz`` file (``images=``, ``labels=`` name its arrays); a folder of images with
            ``labels.csv`` (columns file, label) or one subfolder a class (``size=`` resizes the
            short side and crops, ``mode=L`` reads grey); ``torchvision:CLASS`` and
            ``huggingface:NAME``; ``package.module:function``, or an object: a pair of arrays.
            ``count=`` and ``start=`` choose rows of any of them. Text or a specification.

    Raises:
        ValueError: For an unknown name, a missing file or array, or images that are not 8-bit.
    """
    what = Spec.of(what, "data")
    params = dict(what.params)
    count, start = params.pop("count", None), params.pop("start", 0)
    data = _open(what, params)
    total = len(data.labels)
    for name, value, least in (("count", count, 1), ("start", start, 0)):
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f"data {what.label}: expected {name} >= {least}, got {value!r}")
    stop = total if count is None else start + count
    if start >= total or stop > total:
        raise ValueError(f"data {what.label}: has {total} images, not rows {start} to {stop - 1}")
    return Part(what.label, data, start, stop)


def image_hash(image: Images, label: int) -> str:
    """A short hash of an image's pixels, shape and label."""
    digest = hashlib.sha256(f"{image.shape} {label}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:16]


def _open(what: Spec, params: dict[str, Any]) -> Data:
    name = what.name
    given = what.needed()
    if given is not None:
        return _arrays(what.label, given)
    family, _, rest = name.partition(":")
    path = Path(name).expanduser()
    made = f"data {what.label}"
    if family == "foolbox":
        return _made(_foolbox, rest, params, made)
    if family == "torchvision" and rest:
        return _made(hubs.torchvision, rest, params, made)
    if family == "huggingface" and rest:
        return _made(hubs.huggingface, rest, params, made)
    if path.suffix == ".npz":
        return _made(Npz, path, params, made)
    if path.is_dir():
        return _made(folder, path, params, made)
    if rest:
        return _arrays(what.label, call(import_object(name, "data"), params, made))
    if "/" in name or path.suffix:
        raise ValueError(f"data {name!r}: no such file or folder (in {Path.cwd()})")
    kinds = [
        "FILE.npz",
        "FOLDER",
        "torchvision:CLASS",
        "huggingface:NAME",
        "package.module:function",
    ]
    known = [f"foolbox:{n}" for n in FOOLBOX] + kinds
    raise nearest("data set", name, known)


def _made(make: Callable[..., Data], first: str | Path, params: dict[str, Any], what: str) -> Data:
    accepted = list(inspect.signature(make).parameters.values())
    names = [p.name for p in accepted[1:] if p.kind is not inspect.Parameter.VAR_KEYWORD]
    for name in params:
        if name not in names and len(names) == len(accepted) - 1:
            raise nearest(f"parameter of {what}:", name, [*names, "count", "start"])
    data: Data = call(functools.partial(make, first), params, what)
    return data


def _arrays(label: str, given: Any) -> Arrays:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ValueError(
            f"data {label}: expected a pair of arrays, (images, labels), got {type(given).__name__}"
        )
    return Arrays(label, *given)


def _foolbox(name: str, size: int = 224) -> Data:
    if name not in FOOLBOX:
        raise nearest("data set", f"foolbox:{name}", [f"foolbox:{n}" for n in FOOLBOX])
    samples = Path(foolbox.__file__).parent / "data"
    files = sorted(samples.glob(f"{name}_[0-9][0-9]_*"))
    labels = [int(path.stem.split("_")[-1]) for path in files]
    # Foolbox squeezes its ImageNet samples to squares, without a crop.
    shape = (size, size) if name == "imagenet" else None
    return Files(files, np.asarray(labels, dtype=np.int64), Picture(None, shape, None))

"""Data sets of torchvision and Hugging Face, image by image."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from foolart.evaluation.files import Picture
from foolart.evaluation.sources import Images, Labels, check_labels
from foolart.evaluation.specs import nearest


class Items:
    """A data set that gives its images one by one.

    Args:
        name: What messages call it.
        image: Gives the image of a row, as Pillow has it.
        labels: The classes ``(N,)``.
        picture: How to bring an image to shape.
    """

    numbered: int | None = None

    def __init__(
        self, name: str, image: Callable[[int], Any], labels: Any, picture: Picture
    ) -> None:
        self._name, self._image, self._picture = name, image, picture
        self.labels: Labels = check_labels(name, np.asarray(labels), len(labels))
        self._shape = picture.pixels(image(0)).shape

    def images(self, start: int, stop: int) -> Images:
        """See :class:`foolart.evaluation.data.Data`."""
        images = [self._picture.pixels(self._image(row)) for row in range(start, stop)]
        for row, image in enumerate(images, start):
            if image.shape != self._shape:
                raise ValueError(
                    f"data {self._name}: image {row} has shape {image.shape}, image 0 "
                    f"{self._shape}: choose one size for all with size=..."
                )
        return np.stack(images)


def torchvision(
    name: str,
    root: str = "~/.cache/torchvision",
    size: int | None = None,
    mode: str | None = "RGB",
    **params: Any,
) -> Items:
    """A data set of torchvision: all other parameters go to its constructor.

    Raises:
        ValueError: If torchvision is not installed or has no such data set.
    """
    datasets = _need("torchvision.datasets", f"torchvision:{name}", "torchvision")
    if not hasattr(datasets, name):
        known = [f"torchvision:{known}" for known in dir(datasets)]
        raise nearest("data set", f"torchvision:{name}", known)
    data = getattr(datasets, name)(root=str(Path(root).expanduser()), **params)
    labels = getattr(data, "targets", None)
    if labels is None:
        labels = [data[row][1] for row in range(len(data))]
    return Items(f"torchvision:{name}", lambda row: data[row][0], labels, Picture(size, None, mode))


def huggingface(
    name: str,
    split: str = "test",
    config: str | None = None,
    image_column: str = "",
    label_column: str = "",
    size: int | None = None,
    mode: str | None = "RGB",
) -> Items:
    """A data set of the Hugging Face hub; its columns may have to be named.

    Raises:
        ValueError: If the package is not installed, or a column is not there or not to be guessed.
    """
    datasets = _need("datasets", f"huggingface:{name}", "datasets")
    data = datasets.load_dataset(name, config, split=split)
    kinds = {column: type(kind).__name__ for column, kind in data.features.items()}
    image = _column(name, "image", image_column, "Image", kinds)
    label = _column(name, "label", label_column, "ClassLabel", kinds)
    picture = Picture(size, None, mode)
    return Items(f"huggingface:{name}", lambda row: data[row][image], list(data[label]), picture)


def _column(name: str, what: str, given: str, kind: str, kinds: dict[str, str]) -> str:
    own = [given] if given in kinds else [] if given else [c for c in kinds if kinds[c] == kind]
    if len(own) != 1:
        raise ValueError(
            f"data huggingface:{name}: name the column of the {what}s with {what}_column=...: "
            f"there are {', '.join(f'{column} ({kinds[column]})' for column in kinds)}"
        )
    return own[0]


def _need(module: str, name: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"data {name} needs {module} ({error}): pip install {install}") from error

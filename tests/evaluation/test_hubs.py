from __future__ import annotations

import sys
import types

import numpy as np
import pytest

pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from foolart.evaluation.data import load_data  # noqa: E402
from foolart.evaluation.specs import Spec  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
IMAGES = [Image.fromarray(pixels) for pixels in PIXELS]


def load(what):
    return load_data(Spec.of(what, "data set"))


class TenClasses:
    """A data set as torchvision has them."""

    def __init__(self, root, train=True):
        self.targets = [3, 1, 4, 1] if train else [2, 7, 1, 8]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, row):
        return IMAGES[row], self.targets[row]


class Untitled:
    """A data set that only gives pairs."""

    def __init__(self, root):
        self.pairs = list(zip(IMAGES, [4, 2, 5, 2], strict=True))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, row):
        return self.pairs[row]


@pytest.fixture
def torchvision(monkeypatch):
    datasets = types.ModuleType("torchvision.datasets")
    datasets.TenClasses, datasets.Untitled = TenClasses, Untitled
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.fixture
def hub(monkeypatch):
    datasets = types.ModuleType("datasets")
    named = {name: type(name, (), {}) for name in ("Image", "ClassLabel", "Value")}

    columns = {"img": "Image", "fine": "ClassLabel", "coarse": "ClassLabel", "id": "Value"}

    class Table(list):
        def __init__(self, rows):
            super().__init__(rows)
            self.features = {column: named[kind]() for column, kind in columns.items()}

        def __getitem__(self, key):
            return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return Table({"img": i, "fine": k, "coarse": k // 2} for k, i in enumerate(IMAGES))

    datasets.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    return asked


def test_torchvision_has_targets_or_pairs(torchvision):
    part = load("torchvision:TenClasses(train=False, start=1, count=2)")
    assert part.labels.tolist() == [7, 1]
    assert np.array_equal(part.images(0, 2), np.moveaxis(PIXELS[1:3], -1, 1))
    assert load("torchvision:Untitled").labels.tolist() == [4, 2, 5, 2]
    assert load("torchvision:TenClasses(size=3, mode=L)").images(0, 4).shape == (4, 1, 3, 3)


def test_hugging_face_names_its_columns(hub):
    part = load("huggingface:owner/name(label_column=fine, split=train, config=small)")
    assert hub == [("owner/name", "small", "train")]
    assert part.labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(part.images(2, 4), np.moveaxis(PIXELS[2:], -1, 1))
    with pytest.raises(ValueError, match=r"column of the labels .* fine \(ClassLabel\), coarse"):
        load("huggingface:owner/name")
    with pytest.raises(ValueError, match="column of the images"):
        load("huggingface:owner/name(label_column=fine, image_column=photo)")


def test_images_of_several_sizes_are_refused(torchvision, monkeypatch):
    odd = [*IMAGES[:3], IMAGES[3].resize((5, 4))]
    monkeypatch.setattr(sys.modules[__name__], "IMAGES", odd)
    with pytest.raises(ValueError, match=r"image 3 has shape \(3, 4, 5\).* size="):
        load("torchvision:TenClasses").images(2, 4)


def test_what_is_missing_is_named(torchvision, monkeypatch):
    with pytest.raises(ValueError, match="did you mean torchvision:TenClasses"):
        load("torchvision:TenClass")
    for name in ("torchvision.datasets", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="pip install torchvision"):
        load("torchvision:TenClasses")
    with pytest.raises(ValueError, match="pip install datasets"):
        load("huggingface:owner/name")

from __future__ import annotations

import tracemalloc
import zipfile

import numpy as np
import pytest

pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from foolart.evaluation.data import image_hash, load_data  # noqa: E402
from foolart.evaluation.specs import Spec  # noqa: E402


def load(what):
    return load_data(Spec.of(what, "data set"))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, images):
    for k, name in enumerate(["wolf", "wolf", "bear"]):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(images[k]).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_foolbox_samples_are_those_of_foolbox():
    import foolbox
    import torch

    part = load("foolbox:cifar10(start=3, count=4)")
    model = foolbox.PyTorchModel(torch.nn.Flatten().eval(), bounds=(0, 255), device="cpu")
    x, y = foolbox.samples(model, "cifar10", index=3, batchsize=4)
    assert np.array_equal(part.images(0, 4), x.numpy())
    assert np.array_equal(part.labels, y.numpy())


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("layout", ["last", "first", "grey", "floats"])
def test_npz_rows_are_streamed_in_any_order(tmp_path, images, compressed, layout):
    given = {
        "last": images,
        "first": np.moveaxis(images, -1, 1),
        "grey": images[..., 0],
        "floats": (images / 255).astype(np.float32),
    }[layout]
    expected = images[..., :1] if layout == "grey" else images
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "x.npz", a=given, b=np.arange(10, dtype=np.int32))
    part = load(f"{tmp_path / 'x.npz'}(images=a, labels=b)")
    assert len(part) == 10
    for start, stop in [(4, 7), (0, 2), (9, 10), (0, 10)]:
        assert np.array_equal(part.images(start, stop), np.moveaxis(expected, -1, 1)[start:stop])
    assert part.labels.dtype == np.int64


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    pixels = np.zeros((1000, 50, 50, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.zeros(1000, dtype=np.int64))
    size = pixels.nbytes
    del pixels
    tracemalloc.start()
    part = load(str(tmp_path / "x.npz"))
    for start in range(0, 1000, 10):
        part.images(start, start + 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 10


def test_a_table_gives_the_labels_of_a_folder(folder, images):
    lines = ["file,label,name", "bear/2.png,294,bear", "wolf/0.png,269,wolf"]
    (folder / "labels.csv").write_text("\n".join(lines))
    part = load(str(folder))
    assert part.labels.tolist() == [294, 269]
    assert part.numbered is None
    assert np.array_equal(part.images(1, 2)[0], np.moveaxis(images[0], -1, 0))


def test_subfolders_are_numbered_and_say_so(folder):
    part = load(str(folder))
    assert part.labels.tolist() == [0, 1, 1]
    assert part.numbered == 2


def test_sizes_can_be_made_equal(folder, images):
    Image.fromarray(images[:, :, :, 0].reshape(10, 30)).save(folder / "bear" / "odd.png")
    with pytest.raises(ValueError, match=r"odd.png has shape .*size=5"):
        load(str(folder)).images(0, 4)
    assert load(f"{folder}(size=5)").images(0, 4).shape == (4, 3, 5, 5)


def test_arrays_are_data_too(images):
    part = load(("mine", (images, np.arange(10))))
    assert part.label == "mine"
    assert part.images(2, 4).shape == (2, 3, 6, 5)


def test_hashes_know_pixels_shape_and_label(images):
    image = images[0]
    other = image.copy()
    other[0, 0, 0] ^= 1
    seen = {
        image_hash(image, 1),
        image_hash(image, 2),
        image_hash(other, 1),
        image_hash(image.reshape(5, 6, 3), 1),
    }
    assert len(seen) == 4
    assert image_hash(image.copy(), 1) in seen


def test_an_unknown_array_is_answered_with_those_there_are(tmp_path, images):
    np.savez(tmp_path / "x.npz", photos=images, labels=np.arange(10))
    with pytest.raises(ValueError, match=r"no array 'images': it holds photos, labels"):
        load(str(tmp_path / "x.npz"))


def test_an_unreadable_image_is_named(folder):
    (folder / "bear" / "2.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(ValueError, match=r"2\.png cannot be read"):
        load(str(folder)).images(0, 3)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("foolbox:imagnet", "did you mean foolbox:imagenet"),
        ("foolbox:cifar10(colour=1)", "unknown parameter of data .*'colour': did you mean"),
        ("foolbox:cifar10(count=21)", "has 20 images, not rows 0 to 20"),
        ("foolbox:cifar10(count=0)", "expected count >= 1"),
        ("missing.npz", "no such file"),
        ("some/where", "no such file or folder"),
        ("imagenet", "did you mean"),
        ("os:getcwd", r"expected a pair of arrays, \(images, labels\), got str"),
        ("math:factorial", "missing a required argument: .*; its parameters are"),
    ],
)
def test_unknown_data_is_answered_with_what_there_is(what, message):
    with pytest.raises(ValueError, match=message):
        load(what)


def bad(**arrays):
    return {"images": np.zeros((4, 5, 5, 3), np.uint8), "labels": np.arange(4), **arrays}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (bad(labels=np.arange(3)), r"labels of shape \(4,\)"),
        (bad(labels=np.arange(4.0)), "integer labels, got float64"),
        (bad(images=np.zeros((5, 5, 3), np.uint8), labels=[1]), r"a single image has the shape"),
        (bad(labels=np.array([{}, 1, 2, 3], dtype=object)), "x.npz: cannot be read"),
        (bad(labels=np.eye(4, dtype=int)), r"got \(4, 4\)"),
        (bad(images=np.zeros((4, 5), np.uint8)), r"expected images of shape .* got \(4, 5\)"),
        (bad(images=np.zeros((4, 5, 5, 3), np.int32)), "expected uint8 images, got int32"),
        (bad(images=np.full((4, 5, 5, 3), 0.3001)), "between levels"),
        (bad(images=np.full((4, 5, 5, 3), 1.5)), r"within \[0, 1\]"),
        (bad(images=np.full((4, 5, 5, 3), np.nan)), "without NaN"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load(str(tmp_path / "x.npz")).images(0, 4)


def test_a_damaged_file_is_refused(tmp_path, images):
    path = tmp_path / "x.npz"
    np.savez(path, images=images, labels=np.arange(10))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not an npz file"):
        load(str(path))


def test_an_empty_file_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="no array 'images': it is empty"):
        load(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("array", ["images", "labels"])
def test_a_flipped_bit_is_found(tmp_path, images, save, array):
    path = tmp_path / "x.npz"
    save(path, images=images, labels=np.arange(10))
    with zipfile.ZipFile(path) as file:
        start = file.getinfo(f"{array}.npy").header_offset
        size = file.getinfo(f"{array}.npy").compress_size
    content = bytearray(path.read_bytes())
    content[start + size] ^= 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: (cannot be read|damaged file)"):
        load(str(path)).images(0, 10)


def test_a_table_that_does_not_fit_names_its_line(folder):
    table = folder / "labels.csv"
    for text, message in [
        ("file;label\n", "columns file,label"),
        ("file,label\nwolf/0.png,wolf\n", "line 2: expected an integer label, got 'wolf'"),
        ("file,label\nwolf/9.png,1\n", r"line 2: no such file 'wolf/9\.png'"),
    ]:
        table.write_text(text)
        with pytest.raises(ValueError, match=message):
            load(str(folder))


def test_an_empty_folder_says_what_it_should_hold(tmp_path):
    with pytest.raises(ValueError, match=r"table labels\.csv .* or one subfolder a class"):
        load(str(tmp_path))

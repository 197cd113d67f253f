import itertools
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foolart.plugins import codebook_fit
from foolart.plugins.codebook import E8Lattice, ProductQuantizer


def images(n=6, channels=3, side=12, seed=0):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


# --- the E8 lattice


def brute_force_e8(x):
    """The nearest of all lattice points within distance 1 in every coordinate: none else can be."""
    best = None
    for shift in (0.0, 0.5):
        for corner in itertools.product((0, 1), repeat=8):
            point = np.floor(x - shift) + np.array(corner) + shift
            if round((point - shift).sum()) % 2 == 0:
                distance = ((x - point) ** 2).sum()
                if best is None or distance < best[0]:
                    best = distance, point
    return best


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=8, max_size=8), st.sampled_from([0.1, 0.3, 1.0]))
def test_e8_finds_the_nearest_lattice_point(x, scale):
    x = np.array(x)
    found = E8Lattice(scale)(torch.tensor(x * scale)[None])[0].numpy() / scale
    distance, _ = brute_force_e8(x)
    assert ((x - found) ** 2).sum() == pytest.approx(distance, abs=1e-9)


def test_e8_returns_points_of_the_lattice_and_leaves_them_alone():
    lattice = E8Lattice(0.25)
    points = 3 * torch.randn(2, 5000, 8, generator=torch.Generator().manual_seed(0))
    found = lattice(points)
    doubled = found * 8
    assert torch.equal(doubled, doubled.round())
    assert torch.all(doubled.remainder(2).amin(-1) == doubled.remainder(2).amax(-1))
    assert torch.all((found / 0.25).sum(-1).remainder(2) == 0)
    assert torch.equal(lattice(found), found)


def test_e8_has_the_known_covering_radius_and_second_moment():
    x = torch.rand(100_000, 8, generator=torch.Generator().manual_seed(0)) * 2
    squared = (x - E8Lattice(1)(x)).square().sum(-1)
    assert squared.max() <= 1
    assert squared.mean() / 8 == pytest.approx(0.07168, rel=0.01)


def test_e8_knows_its_neighbours():
    candidates = E8Lattice(2.0).candidates(torch.zeros(1, 1, 8), 300)[0, 0]
    assert len(candidates.unique(dim=0)) == 241
    lengths = candidates.square().sum(1)
    assert sorted(lengths.unique().tolist()) == [0, 8]
    torch.testing.assert_close(E8Lattice(2.0)(candidates), candidates)
    points = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    some = E8Lattice(0.5).candidates(points, 7)
    distance = (some - points.unsqueeze(2)).norm(dim=-1)
    assert torch.equal(some[:, :, 0], E8Lattice(0.5)(points))
    torch.testing.assert_close(distance, distance.sort(-1).values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "scale > 0"), ((float("nan"),), "scale > 0"), ((1, (1, 3, 3)), "8 values")],
)
def test_e8_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        E8Lattice(*arguments)


def test_e8_refuses_points_of_other_dimensions():
    with pytest.raises(ValueError, match=r"\(\.\.\., 8\)"):
        E8Lattice(1.0)(torch.zeros(3, 9))


# --- learning


@pytest.mark.parametrize("method", ["kmeans", "minibatch", "sample"])
@pytest.mark.filterwarnings("ignore:learning")
def test_learnt_codewords_fit_better_than_fewer(method):
    pytest.importorskip("faiss")
    x = images(20)
    patches = codebook_fit.patches_of(x, (1, 3, 3), (3, 3))
    errors = []
    for k in (4, 64):
        quantizer = ProductQuantizer.fit(x, k, method=method)
        assert quantizer.count == k
        assert quantizer.codewords.shape == (3, k, 9)
        errors.append((quantizer(patches) - patches).square().mean())
    assert errors[1] < 0.8 * errors[0]


def test_kmeans_finds_clusters():
    pytest.importorskip("faiss")
    centers = torch.tensor([0.1, 0.5, 0.9])
    choice = torch.randint(3, (4, 1, 30, 30), generator=torch.Generator().manual_seed(0))
    x = centers[choice] + 0.01 * torch.rand(4, 1, 30, 30)
    found = ProductQuantizer.fit(x, 12, patch=1, stride=1).codewords.flatten()
    # Twelve codewords on three clusters 0.01 wide: none between them, none missing.
    offset = found[:, None] - centers
    assert ((offset >= 0) & (offset <= 0.01)).sum(0).min() >= 1
    assert ((offset >= 0) & (offset <= 0.01)).sum() == 12


@pytest.mark.parametrize("method", ["kmeans", "minibatch", "sample"])
@pytest.mark.filterwarnings("ignore:learning")
def test_the_seed_decides_not_the_batches(method):
    pytest.importorskip("faiss")
    x = images(9)
    arguments = {"method": method, "points": 40, "seed": 3}
    whole = ProductQuantizer.fit(x, 8, **arguments)
    loader = [(x[:2], None), (x[2:3], None), (x[3:], None)]
    batched = ProductQuantizer.fit(loader, 8, **arguments)
    other = ProductQuantizer.fit(x, 8, **{**arguments, "seed": 4})
    assert torch.equal(whole.codewords, batched.codewords)
    assert not torch.equal(whole.codewords, other.codewords)


def test_sampled_codewords_are_patches_of_the_images():
    x = images(5)
    quantizer = ProductQuantizer.fit(x, 50, method="sample")
    patches = codebook_fit.patches_of(x, (1, 3, 3), (3, 3))
    for book, own in zip(quantizer.codewords, patches, strict=True):
        assert (book[:, None] == own).all(-1).any(1).all()
        assert len(book.unique(dim=0)) == 50


def test_the_reservoir_keeps_every_patch_with_equal_probability():
    counts = np.zeros(40)
    stream = torch.arange(40.0).reshape(1, 40, 1)
    for seed in range(2000):
        reservoir = codebook_fit._Reservoir(10, 1, seed)
        for part in stream.split(7, dim=1):
            reservoir.add(part)
        counts[reservoir.points()[0, :, 0].astype(int)] += 1
    # Binomial(2000, 1/4): six standard deviations.
    assert np.abs(counts - 500).max() < 6 * np.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.filterwarnings("ignore:learning")
def test_a_universal_codebook_serves_all_slices():
    quantizer = ProductQuantizer.fit(images(4), 20, universal=True, method="sample")
    assert quantizer.codewords.shape == (1, 20, 9)
    assert quantizer.channels is None
    patches = torch.rand(5, 11, 9)
    expected = torch.stack([quantizer(p[None])[0] for p in patches])
    torch.testing.assert_close(quantizer(patches), expected)
    assert quantizer.candidates(patches, 3).shape == (5, 11, 3, 9)


def test_progress_is_told():
    calls = []
    ProductQuantizer.fit(images(3), 5, method="sample", progress=lambda *a: calls.append(a))
    assert calls == [("images", 3, None)] + [("slices", k, 3) for k in (1, 2, 3)]


def test_few_points_are_warned_of():
    with pytest.warns(UserWarning, match=r"learning 20 codewords from 96 patches"):
        ProductQuantizer.fit(images(6), 20, method="minibatch")


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (images(2), {"codewords": 33, "method": "sample"}, "codewords=33 and 32 patches"),
        (images(2), {"codewords": 2, "depth": 2}, "divides the 3 channels"),
        (images(2, side=2), {"codewords": 2}, "at least 3 x 3"),
        (images(2), {"codewords": 2, "stride": 4}, "stride from 1 to 3"),
        (images(2), {"codewords": 0}, "codewords, patch and depth >= 1"),
        (images(2), {"codewords": 2, "method": "em"}, "kmeans, minibatch, sample, got 'em'"),
        (images(2), {"codewords": 9, "points": 8}, "points >= codewords"),
        (images(2)[0], {"codewords": 2}, "float batch"),
        ((images(2) * 255).byte(), {"codewords": 2}, r"scale 8-bit images to \[0, 1\]"),
        (images(2) / 0, {"codewords": 2}, "NaN or infinity"),
        ([], {"codewords": 2}, "at least one image"),
        (3, {"codewords": 2}, "an iterable of such batches, got int"),
        ([images(1), images(1, channels=1)], {"codewords": 2}, "same channels"),
    ],
)
def test_learning_refuses(x, arguments, message):
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match=message):
        ProductQuantizer.fit(x, **arguments)


def test_kmeans_without_faiss_names_the_extra(monkeypatch):
    monkeypatch.setattr(codebook_fit, "has_faiss", lambda: False)
    with pytest.raises(ImportError, match=r'pip install "foolart\[patches\]"'):
        ProductQuantizer.fit(images(2), 2)


# --- the quantiser


def test_the_codebook_is_idempotent():
    quantizer = ProductQuantizer.fit(images(8), 60, method="sample")
    once = quantizer(torch.rand(3, 500, 9))
    assert torch.equal(quantizer(once), once)
    assert torch.equal(quantizer(quantizer.codewords), quantizer.codewords)


@pytest.mark.parametrize(
    ("codewords", "message"),
    [
        (torch.zeros(3, 4, 8), r"\(slices, K, 9\)"),
        (torch.zeros(3, 0, 9), r"\(slices, K, 9\)"),
        (torch.full((3, 4, 9), torch.nan), "finite codewords"),
    ],
)
def test_the_quantizer_refuses(codewords, message):
    with pytest.raises(ValueError, match=message):
        ProductQuantizer(codewords, (1, 3, 3))


def test_the_quantizer_refuses_other_slices():
    with pytest.raises(ValueError, match="3 channels, for which this codebook was learnt, got 2"):
        ProductQuantizer(torch.rand(3, 4, 9), (1, 3, 3))(torch.rand(2, 5, 9))


# --- files


def saved(tmp_path, **arguments):
    pytest.importorskip("safetensors")
    quantizer = ProductQuantizer.fit(images(4, channels=4), 7, method="sample", **arguments)
    quantizer.save(tmp_path / "book.safetensors")
    return quantizer, tmp_path / "book.safetensors"


@pytest.mark.parametrize("arguments", [{"depth": 2}, {"patch": 2, "stride": 2, "universal": True}])
def test_a_codebook_survives_its_file(tmp_path, arguments):
    quantizer, path = saved(tmp_path, **arguments)
    found = ProductQuantizer.load(path, shape=quantizer.shape, channels=4)
    assert torch.equal(found.codewords, quantizer.codewords)
    assert (found.shape, found.universal) == (quantizer.shape, quantizer.universal)
    assert [p.name for p in tmp_path.iterdir()] == ["book.safetensors"]


def test_folders_are_made(tmp_path):
    quantizer, _ = saved(tmp_path)
    quantizer.save(tmp_path / "of" / "books" / "a.safetensors")
    assert ProductQuantizer.load(tmp_path / "of" / "books" / "a.safetensors").count


def test_others_may_read_a_codebook_as_they_may_other_files(tmp_path):
    _, path = saved(tmp_path)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    quantizer, path = saved(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        quantizer.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["book.safetensors"]


def test_another_geometry_is_refused(tmp_path):
    _, path = saved(tmp_path)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 3\).*expected \(1, 5, 5\)"):
        ProductQuantizer.load(path, shape=(1, 5, 5))
    with pytest.raises(ValueError, match="4 channels, expected 3"):
        ProductQuantizer.load(path, channels=3)


def test_damaged_files_are_refused(tmp_path):
    _, path = saved(tmp_path)
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])
    header["__metadata__"]["format"] = "another"
    foreign = json.dumps(header).encode()
    payload = whole[8 + struct.unpack("<Q", whole[:8])[0] :]
    for damaged in (
        b"",
        b"not a file of ours",
        whole[: len(whole) // 2],
        struct.pack("<Q", len(foreign)) + foreign + payload,
        whole.replace(b'"depth":"1"', b'"depth":"2"'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged or no codebook"):
            ProductQuantizer.load(path)
    path.unlink()
    with pytest.raises(ValueError, match="does not exist"):
        ProductQuantizer.load(path)

import eagerpy as ep
import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from foolart.plugins import dissection
from foolart.plugins.pixel_graph import PixelGraph
from foolart.plugins.smoothing import GuidedSmoothing
from foolart.plugins.tiling import Tiling

torch = pytest.importorskip("torch")

Array = NDArray[np.float64]


def direct(
    image: Array, z: Array, alpha: float, kernel: str, bandwidth: float, transpose: bool = False
) -> Array:
    """The definition, by SciPy's sparse direct solver, for one image (C, H, W)."""
    channels, height, width = image.shape
    pixel = np.arange(height * width).reshape(height, width)
    i = np.concatenate([pixel[:-1].ravel(), pixel[:, :-1].ravel()])
    j = np.concatenate([pixel[1:].ravel(), pixel[:, 1:].ravel()])
    x = image.reshape(channels, -1)
    difference = x[:, i] - x[:, j]
    if kernel == "laplacian":
        w = np.exp(-np.abs(difference).sum(axis=0) / bandwidth)
    else:
        w = np.exp(-(difference**2).sum(axis=0) / (2 * bandwidth**2))
    weights = sparse.coo_matrix((w, (i, j)), shape=(pixel.size,) * 2)
    weights = (weights + weights.T).tocsr()
    root = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(weights.sum(axis=1)).ravel(), 1e-300)))
    laplacian = (sparse.eye(pixel.size) - alpha * (root @ weights @ root)) / (1 - alpha)
    factor = splu(laplacian.tocsc())
    gain = factor.solve(np.ones(pixel.size))[:, None]
    z = z.reshape(channels, -1).T
    r = factor.solve(z / gain) if transpose else factor.solve(z) / gain
    return r.T.reshape(image.shape)


def picture(*shape: int, seed: int = 0) -> Array:
    """Images (B, C, H, W) on 256 levels: smooth, but for an edge and a noisy disc."""
    rng = np.random.default_rng(seed)
    _, _, height, width = shape
    i, j = np.mgrid[:height, :width]
    a, b, c = rng.uniform(-0.3, 0.3, (3, *shape[:2], 1, 1))
    x = 0.5 + 0.3 * np.sin(a * i + b * j + 10 * c)
    x[:, :, i[:, 0] > height / 2] *= 0.4
    x += ((i - height / 2) ** 2 + (j - width / 3) ** 2 < height * width / 9) * rng.normal(
        0, 0.1, shape
    )
    return np.rint(x.clip(0, 1) * 255) / 255


def error(actual: object, expected: Array) -> float:
    """The largest relative L2 error of an image."""
    difference = (np.asarray(actual, dtype=np.float64) - expected).reshape(len(expected), -1)
    norms = np.linalg.norm(expected.reshape(len(expected), -1), axis=1)
    return float((np.linalg.norm(difference, axis=1) / norms).max())


def expected(x: Array, z: Array, *parameters: object, **options: object) -> Array:
    return np.stack([direct(*pair, *parameters, **options) for pair in zip(x, z, strict=True)])  # type: ignore[arg-type]


def noise(x: Array, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=x.shape)


def to_torch(x: Array) -> "torch.Tensor":
    return torch.from_numpy(x).float()


def to_jax(x: Array) -> object:
    return pytest.importorskip("jax.numpy").asarray(x.astype(np.float32))


def to_tensorflow(x: Array) -> object:
    return pytest.importorskip("tensorflow").constant(x.astype(np.float32))


FRAMEWORKS = {
    "numpy": lambda x: x.astype(np.float32),
    "torch": to_torch,
    "jax": to_jax,
    "tensorflow": to_tensorflow,
}
SIZES = [(2, 2), (3, 2), (2, 9), (5, 4), (17, 30), (28, 28), (40, 7), (33, 64)]


@pytest.mark.parametrize("bandwidth", [0.003, 0.1, 1.0])
@pytest.mark.parametrize("alpha", [0.95, 0.997, 0.999])
@pytest.mark.parametrize("solver", ["direct", "chebyshev"])
def test_equals_a_sparse_direct_solver(solver: str, alpha: float, bandwidth: float) -> None:
    kernel = "gaussian" if alpha == 0.997 else "laplacian"
    for size in SIZES if solver == "direct" else SIZES[2:5]:
        x = picture(2, 3, *size)
        z = noise(x)
        smoothing = GuidedSmoothing(to_torch(x), alpha, kernel, bandwidth, solver=solver)
        assert error(smoothing(to_torch(z)), expected(x, z, alpha, kernel, bandwidth)) < 1e-5
        adjoint = expected(x, z, alpha, kernel, bandwidth, transpose=True)
        assert error(smoothing.adjoint(to_torch(z)), adjoint) < 1e-5


@pytest.mark.parametrize("solver", ["direct", "chebyshev"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks_agree(framework: str, solver: str) -> None:
    convert = FRAMEWORKS[framework]
    x = picture(2, 3, 29, 38)
    z = noise(x)
    # JAX has no float64 by default, and the iteration gathers its rounding as alpha grows.
    alpha = 0.95 if solver == "chebyshev" else 0.997
    smoothing = GuidedSmoothing(convert(x), alpha, bandwidth=0.03, solver=solver)
    r = smoothing(convert(z))
    assert type(r) is type(convert(z))
    assert error(r, expected(x, z, alpha, "laplacian", 0.03)) < 1e-5
    adjoint = expected(x, z, alpha, "laplacian", 0.03, transpose=True)
    assert error(smoothing.adjoint(convert(z)), adjoint) < 1e-5
    wrapped = smoothing(ep.astensor(convert(z)))
    assert isinstance(wrapped, ep.Tensor)
    np.testing.assert_array_equal(wrapped.numpy(), np.asarray(r))


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(2, 23), st.integers(2, 23)),
    channels=st.integers(1, 4),
    per_channel=st.booleans(),
    alpha=st.floats(0, 0.999),
    seed=st.integers(0, 99),
)
def test_the_adjoint_is_the_transpose(
    size: tuple[int, int], channels: int, per_channel: bool, alpha: float, seed: int
) -> None:
    x = picture(2, channels, *size, seed=seed)
    z, g = noise(x, seed + 1), noise(x, seed + 2)
    smoothing = GuidedSmoothing(x, alpha, per_channel=per_channel)
    r, pulled = smoothing(z), smoothing.adjoint(g)
    bound = 1e-12 * np.linalg.norm(r) * np.linalg.norm(g)
    assert abs((r * g).sum() - (z * pulled).sum()) < bound
    np.testing.assert_allclose(smoothing(2 * z - g), 2 * r - smoothing(g), atol=1e-11)
    np.testing.assert_allclose(smoothing(np.ones_like(x)), 1, rtol=1e-10)


@pytest.mark.parametrize("solver", ["direct", "chebyshev"])
def test_gradcheck(solver: str) -> None:
    x = torch.from_numpy(picture(1, 2, 4, 3))
    smoothing = GuidedSmoothing(x, 0.7, solver=solver)
    z = torch.from_numpy(noise(x.numpy())).requires_grad_()
    tolerance = {"atol": 1e-6} if solver == "direct" else {"atol": 1e-4}
    assert torch.autograd.gradcheck(smoothing, (z,), **tolerance)
    assert torch.autograd.gradcheck(smoothing.adjoint, (z,), **tolerance)
    assert torch.autograd.gradgradcheck(smoothing, (z,), **tolerance)


def test_constants_stay_in_single_precision() -> None:
    x = to_torch(picture(2, 3, 60, 45))
    smoothing = GuidedSmoothing(x, 0.999, bandwidth=0.01)
    np.testing.assert_allclose(smoothing(torch.full_like(x, -3.0)), -3, rtol=1e-6)


def test_smooth_like_the_original() -> None:
    x = np.zeros((1, 1, 16, 16))
    x[..., 8:] = 1
    r = GuidedSmoothing(x, 0.999, bandwidth=0.1)(noise(x))[0, 0]
    within, across = np.abs(np.diff(r[:, :8])).max(), np.abs(r[:, 8] - r[:, 7]).min()
    assert within < np.ptp(noise(x)) / 20
    assert across > 5 * within


def test_per_channel_graphs_are_those_of_the_channels() -> None:
    x = picture(2, 3, 20, 13)
    z = noise(x)
    r = GuidedSmoothing(x, per_channel=True)(z)
    for c in range(3):
        channel = GuidedSmoothing(x[:, c : c + 1])(z[:, c : c + 1])
        np.testing.assert_allclose(r[:, c : c + 1], channel, rtol=1e-10)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("channel_axis", [3, -1])
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_channels_last(framework: str, channel_axis: int, per_channel: bool) -> None:
    convert = FRAMEWORKS[framework]
    x = picture(2, 3, 20, 13)
    z = noise(x)
    first = GuidedSmoothing(convert(x), per_channel=per_channel)
    x, z = x.transpose(0, 2, 3, 1), z.transpose(0, 2, 3, 1)
    last = GuidedSmoothing(convert(x), per_channel=per_channel, channel_axis=channel_axis)
    expected = np.asarray(first.adjoint(first(convert(z.transpose(0, 3, 1, 2)))))
    actual = np.asarray(last.adjoint(last(convert(z))))
    np.testing.assert_allclose(actual.transpose(0, 3, 1, 2), expected, atol=1e-6)
    gain = np.asarray(first.gain)
    assert gain.shape == (2, 3 if per_channel else 1, 20, 13)
    np.testing.assert_allclose(np.asarray(last.gain).transpose(0, 3, 1, 2), gain, rtol=1e-6)


@pytest.mark.parametrize("solver", ["direct", "chebyshev"])
def test_images_do_not_depend_on_their_batch(solver: str) -> None:
    x = to_torch(picture(5, 3, 30, 30))
    z = to_torch(noise(x.numpy()))
    together = GuidedSmoothing(x, solver=solver)(z)
    for i in range(5):
        alone = GuidedSmoothing(x[i : i + 1], solver=solver)(z[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-6)


def test_large_batches_are_factored_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = to_torch(picture(5, 3, 30, 30))
    z = to_torch(noise(x.numpy()))
    whole = GuidedSmoothing(x)(z)
    monkeypatch.setattr(dissection, "CHUNK", 50_000)
    torch.testing.assert_close(GuidedSmoothing(x)(z), whole, rtol=1e-5, atol=1e-6)


def test_alpha_zero_is_the_identity() -> None:
    x = picture(1, 3, 8, 8)
    z = noise(x)
    smoothing = GuidedSmoothing(x, 0)
    np.testing.assert_array_equal(smoothing(z), z)
    np.testing.assert_array_equal(smoothing.adjoint(z), z)
    np.testing.assert_array_equal(smoothing.gain, 1)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_constant_images(framework: str) -> None:
    convert = FRAMEWORKS[framework]
    x = np.full((1, 3, 12, 9), 0.5)
    z = noise(x)
    r = GuidedSmoothing(convert(x), 0.99)(convert(z))
    assert error(r, expected(x, z, 0.99, "laplacian", 0.1)) < 1e-5


@pytest.mark.parametrize("bandwidth", [1e-6, 1e-30])
@pytest.mark.parametrize("kernel", ["laplacian", "gaussian"])
def test_pixels_unlike_all_their_neighbours_stand_alone(kernel: str, bandwidth: float) -> None:
    x = np.random.default_rng(0).random((1, 3, 12, 9))
    x[..., :4] = 0.25
    z = noise(x)
    r = GuidedSmoothing(x, 0.99, kernel, bandwidth)(z)
    np.testing.assert_allclose(r[..., 4:], z[..., 4:])
    flat = GuidedSmoothing(x[..., :4], 0.99, kernel, bandwidth)(z[..., :4])
    np.testing.assert_allclose(r[..., :4], flat, rtol=1e-9)


def test_the_graph_is_the_normalised_adjacency() -> None:
    x = picture(1, 3, 4, 5)
    graph = PixelGraph.of(ep.astensor(x), "gaussian", 0.2)
    basis = np.eye(20).reshape(20, 1, 4, 5)
    matrix = np.concatenate([graph.propagate(ep.astensor(e[None])).raw for e in basis])
    matrix = matrix.reshape(20, 20)
    pixels = x.reshape(3, 20)
    i, j = np.mgrid[:4, :5].reshape(2, 20)
    near = abs(i[:, None] - i) + abs(j[:, None] - j) == 1
    w = near * np.exp(-((pixels[:, :, None] - pixels[:, None]) ** 2).sum(axis=0) / 0.08)
    degree = w.sum(axis=1)
    np.testing.assert_allclose(matrix, w / np.sqrt(degree[:, None] * degree), atol=1e-14)
    v = ep.astensor(noise(x)[:, :1])
    v_hat = v.raw.ravel() / np.sqrt(degree)
    pairs = (w * (v_hat[:, None] - v_hat) ** 2).sum()
    np.testing.assert_allclose(2 * (v * graph.roughness(v)).sum().item(), pairs)


def test_truncated_conjugate_gradient() -> None:
    x = picture(1, 3, 40, 40)
    z = noise(x)
    exact = expected(x, z, 0.997, "laplacian", 0.1)
    published = GuidedSmoothing(x, solver="conjugate_gradient")
    longer = GuidedSmoothing(x, solver="conjugate_gradient", steps=300)
    assert 1e-3 < error(published(z), exact) < 1e-1
    assert error(longer(z), exact) < 1e-8
    np.testing.assert_array_equal(published(0 * z), 0 * z)


def test_images_too_large_for_a_factor() -> None:
    x = picture(1, 3, 30, 30)
    z = noise(x)
    direct, fallback = GuidedSmoothing(x), GuidedSmoothing(x, memory_limit=10_000)
    assert direct.nbytes > 10_000
    assert fallback.nbytes == 0
    np.testing.assert_allclose(fallback(z), direct(z), atol=1e-5)


def test_a_solve_leaves_no_trace() -> None:
    x = to_torch(picture(1, 3, 30, 30))
    z = to_torch(noise(x.numpy()))
    originals, copy = x.clone(), z.clone()
    smoothing = GuidedSmoothing(x.requires_grad_())
    assert not smoothing(z).requires_grad
    r = smoothing(z)
    kept = r.clone()
    smoothing(torch.full_like(z, torch.nan))
    smoothing.adjoint(torch.rand_like(z))
    assert torch.equal(smoothing(z), kept)
    assert torch.equal(r, kept)
    assert torch.equal(x, originals)
    assert torch.equal(z, copy)


def test_reduced_precision_is_off_within_a_solve_and_on_again_after() -> None:
    x = to_torch(picture(1, 3, 30, 30))
    z = to_torch(noise(x.numpy()))
    smoothing = GuidedSmoothing(x)
    r = smoothing(z)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(smoothing(z), r)
            assert (x[0, 0] @ x[0, 0]).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_half_precision_is_computed_in_single() -> None:
    x = picture(1, 3, 20, 20)
    z = torch.from_numpy(noise(x)).half()
    r = GuidedSmoothing(torch.from_numpy(x).half())(z)
    assert r.dtype == torch.float16
    assert error(r, expected(x, z.double().numpy(), 0.997, "laplacian", 0.1)) < 1e-2


@pytest.mark.parametrize(
    ("height", "width"), [(2, 2), (2, 500), (224, 224), (299, 299), (97, 1000), (1024, 1024)]
)
def test_a_tiling_covers_the_image_and_predicts_the_size(height: int, width: int) -> None:
    tiling = Tiling.of(height, width)
    assert tiling.padded[0] >= height
    assert tiling.padded[1] >= width
    assert tiling.size < 200 * max(height, width) ** 2
    if height * width < 10_000:
        nbytes = GuidedSmoothing(torch.rand(1, 1, height, width)).nbytes
        assert 4 * tiling.size <= nbytes < 4.4 * tiling.size


def test_the_factor_of_a_224_image_takes_at_most_22_megabytes() -> None:
    assert Tiling.of(224, 224).size * 4 < 21e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.0}, "alpha in"),
        ({"alpha": -0.1}, "alpha in"),
        ({"alpha": float("nan")}, "alpha in"),
        ({"bandwidth": 0.0}, "bandwidth to be positive"),
        ({"bandwidth": -1.0}, "bandwidth to be positive"),
        ({"bandwidth": float("inf")}, "bandwidth to be positive"),
        ({"kernel": "box"}, "laplacian, gaussian"),
        ({"solver": "lu"}, "direct, chebyshev"),
        ({"steps": 0}, "steps to be at least 1"),
        ({"channel_axis": 2}, "channel_axis to be 1"),
        ({"originals": np.zeros((1, 3, 1, 8))}, "at least 2x2"),
        ({"originals": np.zeros((1, 3, 8, 1))}, "at least 2x2"),
        ({"originals": np.zeros((1, 8, 1, 3)), "channel_axis": 3}, "at least 2x2"),
        ({"originals": np.zeros((0, 3, 8, 8))}, "at least 2x2"),
        ({"originals": np.zeros((3, 8, 8))}, "batch of images"),
        ({"originals": np.zeros((1, 3, 8, 8), dtype=np.uint8)}, "float dtype"),
        ({"originals": np.full((1, 3, 8, 8), np.nan)}, "without NaN"),
        ({"originals": np.full((1, 3, 8, 8), 255.0)}, r"scaled to \[0, 1\]"),
        ({"originals": np.full((1, 3, 8, 8), -1.0)}, r"scaled to \[0, 1\]"),
    ],
)
def test_bad_input(arguments: dict[str, object], message: str) -> None:
    arguments = {"originals": np.zeros((1, 3, 8, 8)), **arguments}
    with pytest.raises(ValueError, match=message):
        GuidedSmoothing(**arguments)  # type: ignore[arg-type]


def test_bad_perturbations() -> None:
    smoothing = GuidedSmoothing(np.zeros((2, 3, 8, 8)))
    with pytest.raises(ValueError, match="of the originals' shape"):
        smoothing(np.zeros((1, 3, 8, 8)))
    with pytest.raises(ValueError, match="expected a NumPyTensor"):
        smoothing.adjoint(torch.zeros(2, 3, 8, 8))


def photograph(size: int) -> Array:
    image = pytest.importorskip("skimage.data").astronaut()[:size, :size]
    return image.transpose(2, 0, 1)[None] / 255


@pytest.mark.slow
@pytest.mark.parametrize("bandwidth", [0.003, 0.1, 1.0])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (299, 299), (301, 450), (512, 512)])
def test_photographs(height: int, width: int, bandwidth: float) -> None:
    x = np.ascontiguousarray(photograph(512)[:, :, :height, :width])
    z = noise(x)
    exact = expected(x, z, 0.999, "laplacian", bandwidth)
    smoothing = GuidedSmoothing(to_torch(x), 0.999, bandwidth=bandwidth)
    assert error(smoothing(to_torch(z)), exact) < 1e-5


def test_a_photograph() -> None:
    x = np.ascontiguousarray(photograph(512)[:, :, 50:146, 150:270])
    z = noise(x)
    exact = expected(x, z, 0.999, "laplacian", 0.01)
    smoothing = GuidedSmoothing(to_torch(x), 0.999, bandwidth=0.01)
    assert error(smoothing(to_torch(z)), exact) < 1e-5


@pytest.mark.gpu
def test_cuda() -> None:
    x = picture(3, 3, 97, 120)
    z = noise(x)
    torch.backends.cuda.matmul.allow_tf32 = True
    smoothing = GuidedSmoothing(to_torch(x).cuda(), 0.999, bandwidth=0.01)
    r = smoothing(to_torch(z).cuda())
    assert torch.backends.cuda.matmul.allow_tf32
    assert error(r.cpu(), expected(x, z, 0.999, "laplacian", 0.01)) < 1e-5

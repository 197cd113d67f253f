from __future__ import annotations

import itertools
import math

import eagerpy as ep
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc

from foolart.plugins.quantization import (
    LagrangianQuantizer,
    expected_distortion,
    quantize_distortion,
    quantize_gradient,
    round_to_grid,
)

N = 7


def problems(seed: int, count: int = 40, n: int = N, spread: float = 2.0):
    """Originals on the grid, perturbed images, some of them on levels or clipped, gradients."""
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, (count, n)).astype(np.float64)
    original[:, 0] = 255
    u = rng.normal(size=(count, n)) * spread
    u[:, 1] = np.round(u[:, 1])
    perturbed = np.clip(original + u, 0, 255)
    gradient = rng.normal(size=(count, n))
    gradient[:, 2] = 0
    return original, perturbed, gradient


def quantizer(original, perturbed, gradient, weights=None):
    weights = None if weights is None else ep.astensor(weights)
    return LagrangianQuantizer(
        ep.astensor(original), ep.astensor(perturbed), ep.astensor(gradient), weights
    )


def roundings(perturbed):
    """All choices of a level next to each element of one image: 2^n of them."""
    options = [sorted({math.floor(a), math.ceil(a)}) for a in perturbed]
    return np.array(list(itertools.product(*options)), dtype=np.float64)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.3, 2.0, 11.0])
def test_q_lambda_minimises_the_lagrangian_among_all_roundings(lam, weighted):
    original, perturbed, gradient = problems(seed=1)
    weights = np.random.default_rng(9).uniform(0.2, 3, original.shape) if weighted else None
    images = quantizer(original, perturbed, gradient, weights)(lam).numpy()
    for i, image in enumerate(images):
        w = 1 if weights is None else weights[i]

        def lagrangian(k, i=i, w=w):
            distortion = (w * (k - original[i]) ** 2).sum(axis=-1)
            return distortion + lam * ((k - perturbed[i]) * gradient[i]).sum(axis=-1)

        choices = roundings(perturbed[i])
        assert (choices == image).all(axis=-1).any()
        assert lagrangian(image) == pytest.approx(lagrangian(choices).min(), abs=1e-9)


def test_ends_of_q_lambda_are_the_closest_and_the_most_adversarial_roundings():
    original, perturbed, gradient = problems(seed=2)
    tensors = [ep.astensor(t) for t in (original, perturbed, gradient)]
    closest = quantize_distortion(*tensors[:2]).numpy()
    strongest = quantize_gradient(*tensors).numpy()
    for i in range(len(original)):
        choices = roundings(perturbed[i])
        distortion = ((choices - original[i]) ** 2).sum(axis=-1)
        loss = (choices * gradient[i]).sum(axis=-1)
        np.testing.assert_array_equal(closest[i], choices[distortion.argmin()])
        # Where the gradient vanishes, the loss leaves the choice to the distortion.
        order = np.lexsort((distortion, np.round(loss, 9)))
        np.testing.assert_array_equal(strongest[i], choices[order[0]])
    q = quantizer(original, perturbed, gradient)
    np.testing.assert_array_equal(q(0.0).numpy(), closest)
    np.testing.assert_array_equal(q(math.inf).numpy(), strongest)


def test_each_image_may_have_its_own_lambda():
    arrays = problems(seed=3, count=3)
    q = quantizer(*arrays)
    images = q(ep.astensor(np.array([0.0, 1.5, np.inf]))).numpy()
    for i, lam in enumerate([0.0, 1.5, math.inf]):
        np.testing.assert_array_equal(images[i], q(lam).numpy()[i])


def test_elements_on_a_level_or_clipped_are_no_candidates_and_never_move():
    original = np.array([[255.0, 0.0, 7.0, 7.0, 7.0]])
    perturbed = np.array([[255.0, 0.0, 9.0, 7.0 + 1e-5, 7.5]])
    q = quantizer(original, perturbed, np.array([[-1.0, 1.0, -1.0, -1.0, -1.0]]))
    assert q.candidates().numpy().tolist() == [1]
    assert q(math.inf).numpy().tolist() == [[255, 0, 9, 7, 8]]


@pytest.mark.parametrize("g", [-2.0, 2.0])
def test_at_lambda_equal_to_its_ratio_an_element_has_moved(g):
    # u = 1.5 away from the original in the direction that lowers the loss: |1 - 2 ceil u| / |g|
    # is 3 / 2 for u > 0, and the mirror image of it for u < 0.
    original = np.array([[10.0]])
    perturbed = original - np.sign(g) * 1.5
    q = quantizer(original, perturbed, np.array([[g]]))
    kept, moved = 10 - np.sign(g), 10 - 2 * np.sign(g)
    assert q(1.4999).numpy().item() == kept
    assert q(1.5).numpy().item() == moved


def test_float_noise_does_not_change_a_quantiser():
    original, perturbed, gradient = problems(seed=4)
    noisy = perturbed + np.random.default_rng(0).uniform(-5e-5, 5e-5, perturbed.shape)
    for lam in (0.0, 1.0, math.inf):
        a = quantizer(original, perturbed, gradient)(lam).numpy()
        b = quantizer(original, noisy, gradient)(lam).numpy()
        np.testing.assert_array_equal(a, b)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_distortion_grows_and_loss_falls_with_lambda(seed, spread):
    original, perturbed, gradient = problems(seed, count=2, n=30, spread=spread)
    q = quantizer(original, perturbed, gradient)
    lams = [0.0, 0.1, 0.5, 1.0, 5.0, 50.0, math.inf]
    images = [q(lam).numpy() for lam in lams]
    distortions = np.array([((k - original) ** 2).sum(axis=-1) for k in images])
    losses = np.array([((k - perturbed) * gradient).sum(axis=-1) for k in images])
    assert (np.diff(distortions, axis=0) >= 0).all()
    assert (np.diff(losses, axis=0) <= 1e-9).all()
    assert (distortions[0] <= ((perturbed - original) ** 2).sum(axis=-1) + 1e-9).all()
    for k in images:
        assert (np.abs(k - perturbed) < 1).all()
        assert k.min() >= 0
        assert k.max() <= 255


def smallest_change(original, perturbed, gradient, fools):
    """The search's oracle: flip the candidates one by one, cheapest first, until one fools."""
    q = quantizer(original[None], perturbed[None], gradient[None])
    slopes = np.unique(q.slope.numpy())
    thresholds = [0.0, *(1 / slopes[slopes > 0][::-1] * (1 + 1e-12)), math.inf]
    for lam in thresholds:
        image = q(lam).numpy()[0]
        if fools(image[None])[0]:
            return image
    return None


def test_search_finds_the_smallest_lambda_that_fools_a_linear_model():
    original, perturbed, gradient = problems(seed=5, count=60, n=25, spread=0.8)
    bias = np.random.default_rng(5).uniform(-3, 12, len(original))

    def loss(k, g, b):
        return ((k - perturbed) * g).sum(axis=-1) + b

    q = quantizer(original, perturbed, gradient)
    calls = 0

    def fools(k):
        nonlocal calls
        calls += 1
        return ep.astensor(loss(k.numpy(), gradient, bias) < 0)

    images, found = q.search(fools)
    size = int(q.candidates().numpy().max())
    assert calls <= math.ceil(math.log2(size)) + 2 + 4
    outcomes = set()
    for i in range(len(original)):
        if max(loss(k, gradient, bias)[i] for k in (original, q.closest.numpy())) < 0:
            expected = original[i]
        else:
            expected = smallest_change(
                original[i],
                perturbed[i],
                gradient[i],
                lambda k, i=i: ((k - perturbed[i]) * gradient[i]).sum(axis=-1) + bias[i] < 0,
            )
        outcomes.add((expected is None, bool((images.numpy()[i] != original[i]).any())))
        assert bool(found.numpy()[i]) == (expected is not None)
        np.testing.assert_array_equal(
            images.numpy()[i], original[i] if expected is None else expected
        )
    assert outcomes == {(True, False), (False, True), (False, False)}


def test_search_calls_no_more_than_promised_where_q_infinity_succeeds():
    original, perturbed, gradient = problems(seed=6, count=5, n=300, spread=0.6)
    q = quantizer(original, perturbed, gradient)
    calls = 0

    def fools(k):
        nonlocal calls
        calls += 1
        return ep.astensor(((k.numpy() - original) ** 2).sum(axis=-1) > 100)

    _, found = q.search(fools)
    assert found.numpy().all()
    assert calls <= math.ceil(math.log2(int(q.candidates().numpy().max()))) + 2

    calls = 0
    images, found = q.search(fools, bisections=3)
    assert calls == 5
    assert found.numpy().all()
    assert (((images.numpy() - original) ** 2).sum(axis=-1) > 100).all()


def test_search_tries_again_where_q_infinity_fails():
    original, perturbed, gradient = problems(seed=7, count=4, n=400, spread=0.6)
    q = quantizer(original, perturbed, gradient)
    size = q.candidates().numpy()
    calls = 0

    def fools(k):
        nonlocal calls
        calls += 1
        moved = (k.numpy() != q.closest.numpy()).sum(axis=-1)
        return ep.astensor((moved > 0.1 * size) & (moved < 0.4 * size))

    images, found = q.search(fools)
    assert found.numpy().all()
    assert calls <= math.ceil(math.log2(size.max())) + 2 + 4
    moved = (images.numpy() != q.closest.numpy()).sum(axis=-1)
    np.testing.assert_array_equal(moved, np.floor(0.1 * size) + 1)


def test_search_returns_the_original_where_nothing_fools_and_where_it_fools_already():
    original, perturbed, gradient = problems(seed=8, count=2, n=20)
    q = quantizer(original, perturbed, gradient)
    images, found = q.search(lambda k: ep.astensor(np.array([False, True])))
    np.testing.assert_array_equal(images.numpy(), original)
    assert found.numpy().tolist() == [False, True]


def test_search_of_an_image_does_not_depend_on_its_batch():
    original, perturbed, gradient = problems(seed=9, count=8, n=60, spread=1.0)

    def search(rows):
        q = quantizer(original[rows], perturbed[rows], gradient[rows])
        goal = 10.0 * (1 + np.arange(8)[rows])
        images, _ = q.search(
            lambda k: ep.astensor(((k.numpy() - original[rows]) ** 2).sum(axis=-1) > goal)
        )
        return images.numpy()

    together = search(slice(None))
    for i in range(8):
        np.testing.assert_array_equal(search(slice(i, i + 1))[0], together[i])


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_q_delta_meets_its_budget_from_below_or_from_above(spread):
    original, perturbed, gradient = problems(seed=10, count=40, n=50, spread=spread)
    q = quantizer(original, perturbed, gradient)
    norm2 = ((perturbed - original) ** 2).sum(axis=-1)
    budget = norm2 * np.random.default_rng(3).uniform(0.2, 1.5, len(norm2))
    budget[0], budget[1] = 0.0, 1e9

    below = q.spend(ep.astensor(budget), ep.astensor(np.zeros(40, bool)), steps=50).numpy()
    above = q.spend(ep.astensor(budget), ep.astensor(np.ones(40, bool)), steps=50).numpy()
    for i in range(40):
        one = quantizer(original[i : i + 1], perturbed[i : i + 1], gradient[i : i + 1])
        slopes = one.slope.numpy()[one.slope.numpy() > 0]
        ladder = [one(0.0), *(one(1 / s * (1 + 1e-12)) for s in np.sort(slopes)[::-1])]
        distortions = np.array([((k.numpy() - original[i]) ** 2).sum() for k in ladder])
        # The closed form behind the search: ||Q_0 u||^2 + the sum of |1 - 2 ceil u| so far.
        u = perturbed[i] - original[i]
        costs = np.abs(1 - 2 * np.ceil(u))[one.slope.numpy()[0] > 0][np.argsort(-slopes)]
        np.testing.assert_allclose(
            distortions, distortions[0] + np.concatenate([[0], costs]).cumsum()
        )

        fits = distortions[distortions <= budget[i]]
        exceeds = distortions[distortions >= budget[i]]
        expected_below = fits.max() if len(fits) else distortions[0]
        expected_above = exceeds.min() if len(exceeds) else distortions[-1]
        assert ((below[i] - original[i]) ** 2).sum() == expected_below
        assert ((above[i] - original[i]) ** 2).sum() == expected_above


@pytest.mark.parametrize("unit", [2.0**-70, 2.0**70])
def test_q_delta_does_not_depend_on_the_unit_of_the_gradient(unit):
    original, perturbed, gradient = (
        a.astype(np.float32) for a in problems(seed=12, count=4, n=200, spread=1.0)
    )
    budget = ep.astensor(((perturbed - original) ** 2).sum(axis=-1))
    above = ep.astensor(np.array([False, True, False, True]))
    expected = quantizer(original, perturbed, gradient).spend(budget, above).numpy()
    scaled = quantizer(original, perturbed, gradient * np.float32(unit))
    np.testing.assert_array_equal(scaled.spend(budget, above).numpy(), expected)


def test_q_delta_with_its_default_steps_is_close_to_the_budget_on_an_image():
    original, perturbed, gradient = problems(seed=11, count=3, n=20_000, spread=0.1)
    q = quantizer(original, perturbed, gradient)
    budget = ((perturbed - original) ** 2).sum(axis=-1)
    for above in (False, True):
        k = q.spend(ep.astensor(budget), ep.astensor(np.full(3, above))).numpy()
        spent = ((k - original) ** 2).sum(axis=-1)
        np.testing.assert_allclose(spent, budget, rtol=0.02)
        assert ((spent >= budget) == above).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_rounding_takes_the_nearest_level(seed):
    original, perturbed, _ = problems(seed, count=2)
    k = round_to_grid(ep.astensor(original), ep.astensor(perturbed)).numpy()
    assert (k == np.round(k)).all()
    assert (np.abs(k - perturbed) <= 0.5).all()
    assert k.min() >= 0
    assert k.max() <= 255


def test_shapes_that_differ_are_refused():
    original, perturbed, gradient = problems(seed=1)
    with pytest.raises(ValueError, match="expected gradient of the shape of original"):
        quantizer(original, perturbed, gradient[:, :3])
    with pytest.raises(ValueError, match="expected weights of the shape of original"):
        quantizer(original, perturbed, gradient, weights=np.ones(3))


@pytest.mark.parametrize(("n", "rho"), [(2, 1.3), (5, 0.4), (50, 3.0), (3000, 12.0), (3000, 90.0)])
def test_expected_distortion_agrees_with_simulation(n, rho):
    rng = np.random.default_rng(0)
    trials = 4_000_000 // n // 4
    u = rng.normal(size=(trials, n))
    u *= rho / np.linalg.norm(u, axis=-1, keepdims=True)
    distortion = (np.round(u) ** 2).sum(axis=-1)
    error = distortion.std() / math.sqrt(trials)
    assert expected_distortion(rho, n) == pytest.approx(distortion.mean(), abs=4 * error + 1e-12)


def test_expected_distortion_agrees_with_the_incomplete_beta_function():
    for n in (2, 7, 100, 150_528):
        for rho in (0.3, 0.6, 2.0, 0.4 * math.sqrt(n), 5 * math.sqrt(n)):
            level = np.arange(1, 256)
            c = np.minimum((2 * level - 1) / (2 * rho), 1)
            tail = 1 - betainc(0.5, (n - 1) / 2, c**2)
            expected = n * ((2 * level - 1) * tail).sum()
            assert expected_distortion(rho, n) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_expected_distortion_tends_to_its_limits():
    n = 150_528
    assert expected_distortion(0.0, n) == 0
    assert expected_distortion(10.0, n) < 1e-9
    rho = 3 * math.sqrt(n)
    assert expected_distortion(rho, n) == pytest.approx(rho**2 + n / 12, rel=1e-6)
    # Rounding shrinks a perturbation below rho^2 / n = .083, and grows it above.
    rho = np.sqrt(n * np.array([0.07, 0.08, 0.085, 0.1]))
    np.testing.assert_array_equal(expected_distortion(rho, n) < rho**2, [True, True, False, False])


@pytest.mark.parametrize(("rho", "n"), [(-1.0, 10), (math.nan, 10), (math.inf, 10), (1.0, 1)])
def test_expected_distortion_refuses_what_is_no_norm(rho, n):
    with pytest.raises(ValueError, match="expected"):
        expected_distortion(rho, n)

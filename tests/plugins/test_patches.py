import copy
import pickle

import pytest
import torch

from foolart.plugins import patches as module
from foolart.plugins.codebook import E8Lattice, ProductQuantizer
from foolart.plugins.patch_grid import patches_of
from foolart.plugins.patches import PatchReplacer


def maps(batch=2, channels=3, height=13, width=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, height, width, generator=generator)


def quantizer(count=20, channels=3, shape=(1, 3, 3), seed=1):
    length = shape[0] * shape[1] * shape[2]
    generator = torch.Generator().manual_seed(seed)
    return ProductQuantizer(
        torch.rand(channels // shape[0], count, length, generator=generator), shape
    )


class Unchanged(torch.nn.Module):
    """A codebook that has every patch."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, patches):
        return patches


class Shifted(Unchanged):
    def forward(self, patches):
        return patches + 0.25


def by_loops(replacer, x):
    """The definition, patch by patch, for overlapping patches of weight 1 and no offset."""
    d, h, w = replacer.quantizer.shape
    c = replacer.stride[0]
    padded = replacer._pad(x)
    total, count = torch.zeros_like(padded), torch.zeros_like(padded)
    for b in range(len(x)):
        for k in range(x.shape[1] // d):
            book = replacer.quantizer.codewords[k]
            for i in range(0, padded.shape[2] - h + 1, c):
                for j in range(0, padded.shape[3] - w + 1, c):
                    place = (b, slice(k * d, k * d + d), slice(i, i + h), slice(j, j + w))
                    p = padded[place].flatten()
                    q = book[(book - p).square().sum(1).argmin()]
                    delta = q - p
                    e = replacer.epsilon
                    if replacer.strategy == "l2":
                        delta = delta * min(1, e / delta.norm())
                    elif replacer.strategy == "linf":
                        delta = delta.clamp(-e, e)
                    elif replacer.strategy == "linear":
                        delta = e * delta
                    total[place] += (p + delta).view(d, h, w)
                    count[place] += 1
    assert count.min() >= 1
    return (total / count)[..., : x.shape[2], : x.shape[3]]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("strategy", "epsilon"), [("plain", None), ("l2", 0.5), ("linf", 0.1), ("linear", 0.3)]
)
def test_the_definition(stride, strategy, epsilon):
    x = maps(height=8, width=7)
    replacer = PatchReplacer(quantizer(), stride=stride, strategy=strategy, epsilon=epsilon)
    torch.testing.assert_close(replacer(x), by_loops(replacer, x))


def test_the_definition_on_deep_slices():
    x = maps(channels=8, height=7, width=6)
    replacer = PatchReplacer(quantizer(channels=8, shape=(4, 3, 3)), stride=2)
    torch.testing.assert_close(replacer(x), by_loops(replacer, x))


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 2, 4), (1, 1, 1), (1, 5, 5)])
@pytest.mark.parametrize("window", ["uniform", "tent", "center"])
def test_an_unchanged_map_is_reconstructed_exactly_for_every_stride_and_offset(shape, window):
    x = 100 * maps()
    center = window == "center"
    if center and shape[1] % 2 == 0:
        return
    for stride in [1] if center else range(1, min(shape[1:]) + 1):
        for offset in ((0, 0), (shape[1] - 1, shape[2] // 2)):
            replacer = PatchReplacer(
                Unchanged(shape), stride=stride, window=window, offset=offset, gradient="true"
            )
            assert torch.equal(replacer(x), x)
            torch.testing.assert_close(
                PatchReplacer(Shifted(shape), stride=stride, window=window, offset=offset)(x),
                x + 0.25,
                atol=1e-4,
                rtol=0,
            )


def test_the_weights_of_overlapping_patches():
    x = torch.zeros(1, 1, 1, 3)

    class Ramp(Unchanged):
        def forward(self, patches):
            return torch.tensor([1.0, 2.0, 3.0]).expand_as(patches)

    # The middle value of three patches of 1 x 3 on an axis padded by one on either side.
    x = torch.zeros(1, 1, 1, 5)
    ramp = Ramp((1, 1, 3))
    value = {w: PatchReplacer(ramp, stride=1, window=w)(x)[0, 0, 0, 2] for w in module.WINDOWS}
    assert value["uniform"] == pytest.approx(2)
    assert value["tent"] == pytest.approx((0.5 * 3 + 1 * 2 + 0.5 * 1) / 2)
    assert value["center"] == 2
    value = PatchReplacer(ramp, stride=1)(x)[0, 0, 0]
    torch.testing.assert_close(value, torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]))


def test_an_offset_moves_the_grid():
    x = maps(height=12, width=12)
    moved = PatchReplacer(quantizer(), offset=(1, 2))(x)
    plain = PatchReplacer(quantizer())(x[..., 2:11, 1:10])
    assert torch.equal(moved[..., 2:11, 1:10], plain)


@pytest.mark.parametrize("strategy", ["l2", "linf", "linear"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_epsilon_from_nothing_to_plain(strategy, stride):
    x = maps()
    plain = PatchReplacer(quantizer(), stride=stride)(x)
    nothing = PatchReplacer(quantizer(), stride=stride, strategy=strategy, epsilon=0)(x)
    largest = 1 if strategy == "linear" else 1e6
    everything = PatchReplacer(quantizer(), stride=stride, strategy=strategy, epsilon=largest)(x)
    assert torch.equal(nothing, x)
    assert torch.equal(everything, plain)
    assert not torch.equal(plain, x)


def test_strategies_keep_their_radius():
    x = maps(height=12, width=12)
    change = PatchReplacer(quantizer(), strategy="linf", epsilon=0.07)(x) - x
    assert change.abs().max() == pytest.approx(0.07, abs=1e-6)
    change = PatchReplacer(quantizer(), strategy="l2", epsilon=0.3)(x) - x
    norms = patches_of(change, (1, 3, 3), (3, 3)).norm(dim=-1)
    assert norms.max() == pytest.approx(0.3, abs=1e-6)


def test_plain_replacement_without_overlap_is_idempotent():
    replacer = PatchReplacer(quantizer())
    once = replacer(maps(height=12, width=9))
    assert torch.equal(replacer(once), once)


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 2, 4)])
def test_the_lattice_serves_as_a_codebook(shape):
    x = maps(channels=8 if shape[0] == 8 else 3, height=8, width=8)
    replacer = PatchReplacer(E8Lattice(0.2, shape))
    once = replacer(x)
    expected = E8Lattice(0.2)(patches_of(x, shape, shape[1:]))
    assert torch.equal(patches_of(once, shape, shape[1:]), expected)
    torch.testing.assert_close(replacer(once), once)


def test_results_do_not_depend_on_batches_or_chunks(monkeypatch):
    x = maps(batch=5)
    for stride in (1, 3):
        replacer = PatchReplacer(quantizer(), stride=stride)
        whole = replacer(x)
        assert torch.equal(torch.cat([replacer(part) for part in x.split(2)]), whole)
        monkeypatch.setattr(module, "FLOATS_AT_ONCE", 1)
        assert torch.equal(replacer(x), whole)
    assert replacer(x[:0]).shape == x[:0].shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_kept(dtype):
    x = maps().to(dtype)
    for stride in (2, 3):
        y = PatchReplacer(quantizer(), stride=stride)(x)
        assert y.dtype == dtype
        expected = PatchReplacer(quantizer(), stride=stride)(x.float())
        torch.testing.assert_close(y.float(), expected, atol=4e-3, rtol=0)


def test_large_maps_of_half_precision_are_finite():
    x = torch.full((1, 3, 160, 160), 0.9, dtype=torch.float16)
    assert x.sum().isinf()
    assert PatchReplacer(quantizer())(x).isfinite().all()


def test_inputs_are_left_alone():
    x = maps()
    before = x.clone()
    PatchReplacer(quantizer(), stride=2, strategy="l2", epsilon=0.1)(x)
    assert torch.equal(x, before)


# --- gradients


def gradient(replacer, x, weights):
    x = x.clone().requires_grad_()
    y = replacer(x)
    (g,) = torch.autograd.grad((y * weights).sum(), x)
    return y.detach(), g


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kind", ["straight-through", "true", "surrogate"])
@pytest.mark.parametrize(
    ("strategy", "epsilon"), [("plain", None), ("l2", 0.4), ("linf", 0.1), ("linear", 0.3)]
)
def test_the_gradient_never_changes_the_values(stride, kind, strategy, epsilon):
    x = maps()
    arguments = {"stride": stride, "strategy": strategy, "epsilon": epsilon}
    y, g = gradient(PatchReplacer(quantizer(), gradient=kind, **arguments), x, maps(seed=2))
    torch.testing.assert_close(y, PatchReplacer(quantizer(), **arguments)(x), atol=1e-6, rtol=0)
    assert g.shape == x.shape
    assert torch.isfinite(g).all()


def test_straight_through_is_the_identity():
    weights = maps(seed=2)
    _, g = gradient(PatchReplacer(quantizer(), stride=2), maps(), weights)
    assert torch.equal(g, weights)


@pytest.mark.parametrize("stride", [2, 3])
def test_the_true_gradient_of_plain_replacement_is_zero(stride):
    _, g = gradient(
        PatchReplacer(quantizer(), stride=stride, gradient="true"), maps(), maps(seed=2)
    )
    assert torch.count_nonzero(g) == 0


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(("strategy", "epsilon"), [("l2", 0.4), ("linf", 0.1), ("linear", 0.3)])
def test_the_true_gradient_is_the_derivative(stride, strategy, epsilon):
    x, weights = maps(height=6, width=6).double(), maps(height=6, width=6, seed=2).double()
    book = quantizer()
    replacer = PatchReplacer(
        book, stride=stride, strategy=strategy, epsilon=epsilon, gradient="true"
    )
    _, g = gradient(replacer, x, weights)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()
    step = 1e-7 * direction
    difference = ((replacer(x + step) - replacer(x - step)) * weights).sum() / 2e-7
    assert (g * direction).sum() == pytest.approx(difference.item(), rel=1e-4)
    assert torch.count_nonzero(g) > 0


@pytest.mark.parametrize("book", [quantizer(count=40), E8Lattice(0.3, (1, 2, 4))])
def test_the_surrogate_is_the_derivative_of_a_soft_assignment(book):
    x = maps(height=12, width=12)
    weights = maps(height=12, width=12, seed=2)
    _, g = gradient(PatchReplacer(book, gradient="surrogate", candidates=8), x, weights)
    shape = book.shape
    points = patches_of(x, shape, shape[1:]).double().requires_grad_()
    c = book.candidates(points.detach().float(), 8).double()
    distance = (c - points.unsqueeze(2)).square().sum(-1)
    t = (distance - distance.amin(-1, keepdim=True)).mean(-1, keepdim=True).detach()
    soft = (torch.softmax(-distance / t, -1).unsqueeze(-1) * c).sum(2)
    soft.backward(patches_of(weights, shape, shape[1:]).double())
    torch.testing.assert_close(
        patches_of(g, shape, shape[1:]).double(), points.grad, atol=1e-5, rtol=1e-4
    )
    assert g.abs().max() > 0


def test_it_pickles_copies_and_moves_with_its_codebook():
    replacer = PatchReplacer(quantizer(), stride=2, strategy="linf", epsilon=0.1)
    x = maps().requires_grad_()
    for other in (pickle.loads(pickle.dumps(replacer)), copy.deepcopy(replacer)):
        assert torch.equal(other(x), replacer(x))
    assert "quantizer.codewords" in replacer.state_dict()
    assert list(replacer.parameters()) == []


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 4}, "stride from 1 to 3"),
        ({"stride": 0}, "stride from 1 to 3"),
        ({"stride": 1.5}, "integer stride from 1 to 3"),
        ({"stride": (1, 1)}, "integer stride from 1 to 3"),
        ({"offset": 1}, r"offset from \(0, 0\)"),
        ({"candidates": 0}, "candidates >= 1"),
        ({"strategy": "l1"}, "plain, l2, linf, linear, got 'l1'"),
        ({"strategy": "l2"}, "epsilon for the strategies"),
        ({"epsilon": 0.1}, "epsilon for the strategies"),
        ({"strategy": "linear", "epsilon": 1.1}, "epsilon from 0 to 1"),
        ({"strategy": "l2", "epsilon": -0.1}, "epsilon from 0"),
        ({"strategy": "l2", "epsilon": float("nan")}, "epsilon from 0"),
        ({"window": "round"}, "uniform, tent, center"),
        (
            {"window": "center", "stride": 2},
            "it leaves holes ",
        ),
        ({"offset": (3, 0)}, r"offset from \(0, 0\) to \(2, 2\)"),
        ({"gradient": "none"}, "straight-through, true, surrogate"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PatchReplacer(quantizer(), **arguments)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (maps(channels=4), "3 channels.*got 4"),
        (maps(height=2), "at least 3 x 3, one patch, got 2 x 11"),
        (maps()[0], r"float maps \(B, D, H, W\)"),
        (maps().long(), r"float maps \(B, D, H, W\)"),
        (maps() * float("nan"), "NaN or infinity"),
    ],
)
def test_bad_maps_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        PatchReplacer(quantizer())(x)


def test_a_depth_that_does_not_divide_the_channels_is_refused():
    book = ProductQuantizer(torch.rand(1, 4, 18), (2, 3, 3), universal=True)
    with pytest.raises(ValueError, match="divides the 3 channels of the map, got 2"):
        PatchReplacer(book)(maps())

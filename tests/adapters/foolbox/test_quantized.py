from __future__ import annotations

import io
import math

import eagerpy as ep
import foolbox as fb
import numpy as np
import pytest
from foolbox.attacks import (
    L2PGD,
    DDNAttack,
    L2AdditiveUniformNoiseAttack,
    LinfFastGradientAttack,
)

from foolart.adapters.foolbox.quantized import Quantized
from tests.networks import Linear

from .small_networks import CLASSES, jax_network, torch_network

torch = pytest.importorskip("torch")

METHODS = ("lagrangian", "rounding", "distortion", "gradient")
DDN = DDNAttack(steps=50, init_epsilon=0.2)
PGD = L2PGD(steps=10, rel_stepsize=0.2, random_start=False)


def levels_of(images, bounds=(0, 1), levels=256):
    return (
        (np.asarray(images, dtype=np.float64) - bounds[0]) / (bounds[1] - bounds[0]) * (levels - 1)
    )


def assert_on_grid(images, bounds=(0, 1), levels=256):
    k = levels_of(images, bounds, levels)
    assert np.abs(k - np.round(k)).max() < 1e-3


def l2(a, b):
    return (a - b).flatten(1).norm(dim=1)


@pytest.mark.parametrize("method", METHODS)
def test_results_are_images_on_the_grid_and_success_is_judged_on_them(method):
    model, x, y, _ = torch_network(8)
    raw, clipped, success = Quantized(DDN, method=method)(model, x, y, epsilons=None)
    assert_on_grid(raw)
    assert_on_grid(clipped)
    assert raw.dtype == x.dtype
    assert torch.equal(success, model(clipped).argmax(-1) != y)
    assert torch.equal(clipped[~success], x[~success])


def test_lagrangian_always_fools_and_stays_closest():
    model, x, y, _ = torch_network(12)
    distances = {}
    for method in METHODS:
        images, _, success = Quantized(DDN, method=method)(model, x, y, epsilons=None)
        distances[method] = torch.where(success, l2(images, x), math.inf)
    assert distances["lagrangian"].isfinite().all()
    for method in METHODS:
        assert (distances["lagrangian"] <= distances[method] + 1e-6).all()
    assert (
        not distances["rounding"].isfinite().all()
        or (distances["lagrangian"] < distances["rounding"]).any()
    )


@pytest.mark.parametrize("search", ["model", "linear"])
def test_on_a_linear_model_it_comes_close_to_the_best_image_on_the_grid(search):
    linear = Linear.make(n=8, shape=(3, 32, 32))
    x, y, true = linear.images, linear.labels, linear.distances()
    w = (linear.weight[0] - linear.weight[1]).abs().numpy().astype(np.float64)
    attack = Quantized(DDNAttack(steps=60), search=search)
    images, _, success = attack(linear.model(), x, y, epsilons=None)
    assert success.all()

    # The best image takes the steps (element, level l -> l + 1) in order of (2 l + 1) / |w|.
    cost = np.repeat(1 + 2 * np.arange(5), len(w))
    gain = np.tile(w, 5)
    order = np.argsort(cost / gain)
    margins = true.numpy() * np.linalg.norm(w) * 255
    steps = np.searchsorted(np.cumsum(gain[order]), margins)
    best = np.sqrt(np.cumsum(cost[order])[steps]) / 255
    np.testing.assert_array_less(l2(images, x).numpy(), best * 1.01)
    np.testing.assert_array_less(best * 0.999, l2(images, x).numpy())


def test_cost_is_what_it_promises():
    model, x, y, counter = torch_network(6)
    perturbed, _, _ = DDN(model, x, y, epsilons=None)

    class Ready(DDNAttack):
        def run(self, model, inputs, criterion, *, early_stop=None, **kwargs):
            return ep.astensor(perturbed)

    def calls(**kwargs):
        counter.calls = 0
        _, _, success = Quantized(Ready(), **kwargs)(model, x, y, epsilons=None)
        assert success.all()
        return counter.calls - 1  # Foolbox judges the unquantised image too

    candidates = x[0].numel()
    gradient, again = 1, 1
    assert calls() <= gradient + math.ceil(math.log2(candidates)) + 2 + again
    assert calls(bisections=3) == gradient + 3 + 2 + again
    assert calls(method="gradient") == gradient + again
    assert calls(search="linear", margin=0.5) == gradient + again


def test_epsilons_are_judged_on_the_quantised_image():
    model, x, y, _ = torch_network(10)
    free, _, _ = Quantized(DDN)(model, x, y, epsilons=None)
    distances = l2(free, x)
    epsilons = [0.0, distances.median().item() + 1e-4, None, 10.0]
    raw, clipped, success = Quantized(DDN)(model, x, y, epsilons=epsilons)
    assert len(raw) == len(clipped) == 4
    assert success.shape == (4, 10)
    for k, epsilon in enumerate(epsilons):
        assert_on_grid(raw[k])
        assert_on_grid(clipped[k])
        assert torch.equal(success[k], model(clipped[k]).argmax(-1) != y)
        if epsilon is not None:
            assert (l2(clipped[k], x) <= epsilon + 1e-5).all()
    assert not success[0].any()
    assert success[1][distances <= epsilons[1]].all()
    assert success[2].all()
    assert success[3].all()

    one = Quantized(DDN)(model, x, y, epsilons=epsilons[1])
    assert torch.equal(one[1], clipped[1])
    assert torch.equal(one[2], success[1])


def test_fixed_epsilon_attacks_are_quantised_at_each_epsilon():
    model, x, y, _ = torch_network(8)
    epsilons = [2 / 255, 4.5 / 255]
    attack = Quantized(LinfFastGradientAttack())
    raw, clipped, success = attack(model, x, y, epsilons=epsilons)
    for k, epsilon in enumerate(epsilons):
        assert_on_grid(raw[k])
        assert_on_grid(clipped[k])
        assert ((clipped[k] - x).abs().flatten(1).max(dim=1).values <= epsilon + 1e-5).all()
        assert torch.equal(success[k], model(clipped[k]).argmax(-1) != y)
    assert success[1].sum() >= success[0].sum()
    assert success[1].any()
    assert attack.distance is fb.distances.linf


def test_repeated_attacks_work_inside_and_outside():
    model, x, y, _ = torch_network(5)
    noise = L2AdditiveUniformNoiseAttack()
    for attack in (Quantized(noise.repeat(3)), Quantized(noise).repeat(3)):
        torch.manual_seed(0)
        raw, clipped, success = attack(model, x, y, epsilons=[1.0, 40.0])
        for k in range(2):
            assert_on_grid(raw[k])
            assert_on_grid(clipped[k])
            assert torch.equal(success[k], model(clipped[k]).argmax(-1) != y)
        assert success[1].all()
    repeated = Quantized(DDN).repeat(2)
    images, _, success = repeated(model, x, y, epsilons=None)
    once, _, _ = Quantized(DDN)(model, x, y, epsilons=None)
    assert success.all()
    assert torch.equal(images, once)


def test_an_image_alone_gives_what_it_gives_in_a_batch():
    model, x, y, _ = torch_network(6)
    together, _, success = Quantized(DDN)(model, x, y, epsilons=None)
    for i in range(6):
        alone, _, one = Quantized(DDN)(model, x[i : i + 1], y[i : i + 1], epsilons=None)
        assert one.item() == success[i].item()
        expected = l2(together, x)[i].item()
        assert l2(alone, x[i : i + 1]).item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 255)])
def test_bounds_only_rescale_the_result(bounds):
    # PGD knows its lengths relative to epsilon; Foolbox's DDN depends on the scale of the bounds.
    scale = bounds[1] - bounds[0]
    model, x, y, _ = torch_network(6)
    attack = Quantized(PGD)
    images, _, success = attack(model, x, y, epsilons=0.4)
    other, inputs, labels, _ = torch_network(6, bounds=bounds)
    assert torch.equal(labels, y)
    moved, _, succeeded = attack(other, inputs, y, epsilons=0.4 * scale)
    assert_on_grid(moved, bounds)
    assert success.all()
    assert torch.equal(success, succeeded)
    np.testing.assert_allclose(l2(moved, inputs).numpy() / scale, l2(images, x).numpy(), rtol=0.01)


def test_targets_are_reached():
    model, x, y, _ = torch_network(6)
    targets = (y + 7) % CLASSES
    criterion = fb.criteria.TargetedMisclassification(targets)
    raw, _, success = Quantized(DDNAttack(steps=60))(model, x, criterion, epsilons=None)
    assert success.all()
    assert torch.equal(model(raw).argmax(-1), targets)
    assert_on_grid(raw)


def test_models_that_return_probabilities_work():
    model, x, y, _ = torch_network(6, probabilities=True)
    assert torch.allclose(model(x).sum(-1), torch.ones(6))
    raw, _, success = Quantized(DDNAttack(steps=60))(model, x, y, epsilons=None)
    assert success.all()
    assert torch.equal(model(raw).argmax(-1) != y, success)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_with_a_single_logit_is_refused(method):
    class Binary(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(-1, keepdim=True)

    model = fb.PyTorchModel(Binary().eval(), bounds=(0, 1), device="cpu")
    _, x, _, _ = torch_network(2)
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="a binary model with one logit z needs"):
        Quantized(LinfFastGradientAttack(), method=method)(model, x, labels, epsilons=0.1)


def test_the_margin_is_met():
    model, x, y, _ = torch_network(8)
    raw, _, success = Quantized(DDN, margin=0.2)(model, x, y, epsilons=None)
    z = model(raw)
    own = z.gather(1, y[:, None])[:, 0]
    assert success.all()
    assert (z.max(dim=1).values - own >= 0.2).all()
    less, _, _ = Quantized(DDN)(model, x, y, epsilons=None)
    assert (l2(raw, x) > l2(less, x)).all()

    raw, _, success = Quantized(DDN, margin=100.0)(model, x, y, epsilons=None)
    assert not success.any()
    assert torch.equal(raw, x)


def test_a_png_round_trip_changes_nothing():
    image = pytest.importorskip("PIL.Image")
    model, x, y, _ = torch_network(5)
    raw, _, success = Quantized(DDN)(model, x, y, epsilons=None)
    assert success.all()
    for i in range(5):
        file = io.BytesIO()
        pixels = np.round(levels_of(raw[i])).astype(np.uint8).transpose(1, 2, 0)
        image.fromarray(pixels).save(file, format="png")
        read = np.asarray(image.open(io.BytesIO(file.getvalue())), dtype=np.float32) / 255
        again = torch.from_numpy(read.transpose(2, 0, 1))[None]
        assert torch.equal(model(again), model(raw[i : i + 1]))
        assert model(again).argmax(-1).item() != y[i]


@pytest.mark.parametrize("levels", [2, 16, 1024, 65536])
def test_other_bit_depths(levels):
    model, x, y, _ = torch_network(5, levels=levels)
    raw, _, success = Quantized(DDN, levels=levels)(model, x, y, epsilons=None)
    assert_on_grid(raw, levels=levels) if levels < 65536 else None
    assert torch.equal(success, model(raw).argmax(-1) != y)
    assert success.all() or levels == 2
    k = np.round(levels_of(raw, levels=levels))
    back = torch.from_numpy((k / (levels - 1)).astype(np.float32))
    assert torch.equal(model(back).argmax(-1) != y, success)


@pytest.mark.parametrize("method", METHODS)
def test_misclassified_inputs_come_back_unchanged(method):
    model, x, y, _ = torch_network(5, wrong=2)
    raw, _, success = Quantized(DDN, method=method)(model, x, y, epsilons=None)
    assert success[:2].all()
    assert torch.equal(raw[:2], x[:2])
    if method == "lagrangian":  # even where the attack moved them
        raw, _, success = Quantized(L2PGD(steps=5))(model, x, y, epsilons=0.5)
        assert success[:2].all()
        assert torch.equal(raw[:2], x[:2])
        assert not torch.equal(raw[2:], x[2:])


@pytest.mark.parametrize("method", METHODS)
def test_inputs_that_withstand_come_back_unchanged(method):
    model, x, y, _ = torch_network(4)
    raw, clipped, success = Quantized(LinfFastGradientAttack(), method=method)(
        model, x, y, epsilons=1e-6
    )
    assert not success.any()
    assert torch.equal(clipped, x)
    assert_on_grid(raw)


def test_native_and_eagerpy_tensors_and_int32_labels():
    model, x, y, _ = torch_network(3)
    native, _, success = Quantized(DDN)(model, x, y.int(), epsilons=None)
    assert isinstance(native, torch.Tensor)
    assert isinstance(success, torch.Tensor)
    wrapped, _, judged = Quantized(DDN)(model, ep.astensor(x), ep.astensor(y), epsilons=None)
    assert isinstance(wrapped, ep.Tensor)
    assert torch.equal(wrapped.raw, native)
    assert torch.equal(judged.raw, success)


def test_the_caller_s_tensors_and_model_are_left_alone():
    _, x, _, _ = torch_network(3)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x[0].numel(), 5))
    model = fb.PyTorchModel(net.eval(), bounds=(0, 1), device="cpu")
    y = model(x).argmax(-1).detach()
    before = x.clone()
    Quantized(L2PGD(steps=3))(model, x, y, epsilons=5.0)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert not net.training
    assert all(p.requires_grad for p in net.parameters())


def test_visibility_spares_flat_areas():
    model, x, y, _ = torch_network(6)
    x = x.clone()
    x[:, :, :16] = 128 / 255  # the upper half is flat
    y = model(x).argmax(-1)
    plain, _, _ = Quantized(DDN)(model, x, y, epsilons=None)
    spared, _, success = Quantized(DDN, weights="visibility")(model, x, y, epsilons=None)
    assert success.all()

    def flat(images):
        return (images - x)[:, :, :16].square().flatten(1).sum(dim=1)

    assert (flat(spared) < flat(plain)).all()
    assert (flat(spared) / flat(plain)).median() < 0.5
    same, _, _ = Quantized(DDN, weights=ep.ones_like)(model, x, y, epsilons=None)
    assert torch.equal(same, plain)


@pytest.mark.parametrize(
    "weights", [lambda o: o * 0, lambda o: ep.ones_like(o[:1]), lambda o: -ep.ones_like(o)]
)
def test_weights_that_are_none_are_refused(weights):
    model, x, y, _ = torch_network(2)
    with pytest.raises(ValueError, match="expected weights to return positive numbers"):
        Quantized(L2PGD(steps=1), weights=weights)(model, x, y, epsilons=0.3)


def test_visibility_needs_a_layout():
    class Plain(fb.models.Model):
        bounds = fb.types.Bounds(0, 1)

        def __call__(self, x):
            return ep.astensor(x).reshape((2, -1))[:, :4] * 3

    x = torch.full((2, 5, 5, 5), 0.2)
    y = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="pass a function that knows the layout"):
        Quantized(L2PGD(steps=1), weights="visibility")(Plain(), x, y, epsilons=0.3)


def test_jax():
    model, x, y = jax_network(5)
    raw, _, success = Quantized(LinfFastGradientAttack())(model, x, y, epsilons=0.01)
    assert success.all()
    assert_on_grid(raw)
    assert (model(raw).argmax(-1) != y).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "round"}, "expected method to be one of"),
        ({"levels": 1}, "expected levels"),
        ({"levels": None}, "expected levels to be an integer"),
        ({"levels": 12.5}, "expected levels"),
        ({"search": "binary"}, "expected search to be 'model' or 'linear'"),
        ({"margin": -1.0}, "expected margin"),
        ({"margin": math.nan}, "expected margin"),
        ({"bisections": -1}, "expected bisections"),
        ({"weights": "smooth"}, "expected weights"),
        ({"method": "rounding", "margin": 1.0}, "does not search"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Quantized(DDN, **arguments)


def test_what_is_no_attack_is_refused():
    with pytest.raises(ValueError, match="expected attack to be a Foolbox attack"):
        Quantized("DDN")


def test_bad_inputs_are_refused():
    model, x, y, _ = torch_network(2)
    attack = Quantized(DDN)
    for inputs, labels, message in [
        (x * 0.999, y, "expected originals on the grid of 256 levels"),
        (x * 2, y, "expected inputs within model.bounds"),
        (x, y[:1], r"expected labels to have shape \(2,\)"),
        (x, y.float(), "expected labels of an integer dtype"),
        (x * math.nan, y, "expected inputs without NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            attack(model, inputs.clip(max=3), labels, epsilons=None)
    with pytest.raises(ValueError, match="expected epsilons"):
        attack(model, x, y, epsilons=-1.0)

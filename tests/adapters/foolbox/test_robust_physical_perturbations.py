"""RP2 as a Foolbox attack, on a small network and, where its loss is known, by hand."""

from __future__ import annotations

import re

import foolbox
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from foolart.adapters.foolbox.robust_physical_perturbations import (  # noqa: E402
    RobustPhysicalPerturbationsAttack,
)
from foolart.plugins.rp2 import Objective  # noqa: E402
from foolart.plugins.transformations import Transformations  # noqa: E402

Attack = RobustPhysicalPerturbationsAttack
CLASSES = 20


class Network(torch.nn.Module):
    """A smooth classifier with fixed weights that counts its calls."""

    def __init__(self, bounds=(0, 1)):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = torch.nn.Parameter(torch.randn(768, 64, generator=generator) / 768**0.5)
        self.last = torch.nn.Parameter(torch.randn(64, CLASSES, generator=generator) / 2)
        self.bounds, self.calls = bounds, 0

    def forward(self, x):
        self.calls += 1
        lower, upper = self.bounds
        x = (x - lower) / (upper - lower)
        return torch.tanh(4 * (x.flatten(1) - 0.5) @ self.first) @ self.last


def setting(bounds=(0, 1), count=5):
    """A model, photographs of one object in different light, and their label."""
    network = Network(bounds).eval()
    model = foolbox.PyTorchModel(network, bounds=bounds, device="cpu")
    lower, upper = bounds
    thing = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 0.8 + 0.1
    light = torch.linspace(-0.03, 0.03, count)[:, None, None, None]
    x = (thing + light) * (upper - lower) + lower
    labels = model(x).argmax(-1)
    network.calls = 0
    return model, x, labels, network


def targets(labels, shift=0):
    return foolbox.criteria.TargetedMisclassification(torch.full_like(labels, 7 + shift))


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((16, 16), np.float32)
    mask[3:13, 4:14] = 1
    return mask


@pytest.fixture(scope="module")
def problem():
    model, x, labels, network = setting()
    assert len(labels.unique()) == 1
    assert 7 not in labels
    return model, x, labels, network


def test_a_shared_sticker_reaches_the_target_everywhere(problem, mask):
    model, x, labels, _ = problem
    attack = Attack(steps=60)
    before = x.clone()
    raw, clipped, success = attack(model, x, targets(labels), epsilons=None, mask=mask)
    assert success.all()
    assert (model(raw).argmax(-1) == 7).all()
    assert torch.equal(raw, clipped)
    assert torch.equal(x, before)
    assert raw.min() >= 0
    assert raw.max() <= 1
    outside = torch.from_numpy(mask == 0).expand_as(x)
    assert torch.equal(raw[outside], x[outside])
    assert (raw != x).any()
    sticker = attack.sticker(model, x, targets(labels), mask=mask)
    assert sticker.delta.shape == (1, 3, 16, 16)
    assert torch.equal(sticker(x), raw)


def test_untargeted_with_labels(problem, mask):
    model, x, labels, _ = problem
    _, clipped, success = Attack(steps=40)(model, x, labels, epsilons=None, mask=mask)
    assert success.all()
    assert (model(clipped).argmax(-1) != labels).all()


def test_the_gradient_of_the_loss_is_that_of_its_formula(problem, mask):
    """The objective against eq. (2) written out, by finite differences in float64."""
    _, x, _, _ = problem
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(rng.normal(size=(768, 4)) / 10)
    palette = torch.from_numpy(rng.uniform(size=(3, 3)))
    x = x.double() * 0.5 + 0.2
    m = torch.from_numpy(mask).double()[None, None]
    delta = torch.from_numpy(rng.uniform(-0.05, 0.05, (1, 3, 16, 16)))

    def judge(images, rows):
        loss = -torch.log_softmax(images.flatten(1) @ weight, 1)[:, 2]
        return loss, loss < 1

    for norm, extra in ((1, None), (2, lambda images: images.square().sum((1, 2, 3)))):
        objective = Objective(judge, x, m, lam=0.3, norm=norm, palette=palette, extra=extra)
        loss, fooled, gradient = objective.value_and_gradient(delta, [])

        def formula(d, norm=norm, extra=extra):
            total = 0.0
            for image in x.numpy():
                composed = np.clip(image + mask * d, 0, 1)
                logits = composed.ravel() @ weight.numpy()
                total += np.log(np.exp(logits).sum()) - logits[2]
                total += 0.3 * (np.abs(mask * d) ** norm).sum() ** (1 / norm)
                total += 0 if extra is None else (composed**2).sum()
                for i, j in zip(*np.nonzero(mask), strict=True):
                    total += np.prod(np.linalg.norm(d[:, i, j] - palette.numpy(), axis=1))
            return total

        d = delta[0].numpy()
        assert loss.sum().item() == pytest.approx(formula(d), rel=1e-9)
        assert fooled.tolist() == (judge(x + m * delta, None)[0] < 1).double().tolist()
        for place in [(0, 5, 5), (2, 12, 9), (1, 0, 0)]:
            step = np.zeros_like(d)
            step[place] = 1e-6
            slope = (formula(d + step) - formula(d - step)) / 2e-6
            assert gradient[0][place].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_batches_only_save_memory(problem, mask):
    model, x, labels, _ = problem
    for options in ({}, {"shared": False}):
        whole = Attack(steps=8, **options).sticker(model, x, targets(labels), mask=mask)
        parts = Attack(steps=8, batch_size=2, **options).sticker(
            model, x, targets(labels), mask=mask
        )
        torch.testing.assert_close(whole.delta, parts.delta, rtol=1e-3, atol=1e-4)


def test_stickers_of_their_own_do_not_depend_on_their_neighbours(problem, mask):
    model, x, labels, _ = problem
    attack = Attack(steps=15, shared=False, transformations=Transformations(crop=0.2))
    together, _, _ = attack(model, x, targets(labels), epsilons=None, mask=mask)
    for i in (0, 3):
        alone, _, _ = attack(
            model, x[i : i + 1], targets(labels[i : i + 1]), epsilons=None, mask=mask
        )
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-4)
    assert attack.sticker(model, x, labels, mask=mask).delta.shape == x.shape


@pytest.mark.parametrize("compose", ["add", "replace"])
def test_bounds_only_scale(mask, compose):
    results = []
    for lower, upper in ((0, 1), (-1, 1), (0, 255)):
        model, x, labels, _ = setting((lower, upper), 3)
        attack = Attack(steps=12, compose=compose)
        raw, _, success = attack(model, x, targets(labels), epsilons=None, mask=mask)
        results.append(((raw - lower) / (upper - lower), success))
    for images, success in results[1:]:
        torch.testing.assert_close(images, results[0][0], rtol=1e-3, atol=1e-3)
        assert torch.equal(success, results[0][1])


def test_images_that_are_not_fooled_come_back_unchanged(problem):
    model, x, labels, _ = problem
    mask = np.zeros((16, 16))
    mask[8, 8] = 1
    raw, _, success = Attack(steps=3)(model, x, targets(labels), epsilons=None, mask=mask)
    assert not success.any()
    assert torch.equal(raw, x)


def test_adversarial_inputs_come_back_unchanged(mask):
    model, x, labels, _ = setting(count=4)
    labels[:2] += 1
    raw, _, success = Attack(steps=30)(model, x, labels, epsilons=None, mask=mask)
    assert torch.equal(raw[:2], x[:2])
    assert success[:2].all()


def test_one_forward_and_one_backward_a_step(problem, mask):
    model, x, labels, network = problem
    network.calls = 0
    Attack(steps=10).sticker(model, x, targets(labels), mask=mask)
    # One more for the last iterate, and one of a single image for the number of classes.
    assert network.calls == 12


def test_opaque_stickers_are_the_same_on_all_images(problem, mask):
    model, x, labels, _ = problem
    attack = Attack(steps=60, compose="replace")
    raw, _, success = attack(model, x, targets(labels), epsilons=None, mask=mask)
    assert success.all()
    inside = mask > 0
    assert torch.equal(raw[0][:, inside], raw[4][:, inside])
    sticker = attack.sticker(model, x, targets(labels), mask=mask)
    assert sticker.delta.min() >= 0
    assert sticker.delta.max() <= 1


def test_printable_colours_are_approached(problem, mask):
    model, x, labels, _ = problem
    colours = [[0.1, 0.2, 0.3], [0.9, 0.1, 0.1], [0.8, 0.8, 0.9], [0.1, 0.9, 0.2]]

    def offset(**options):
        attack = Attack(steps=60, compose="replace", stepsize=0.03, **options)
        sticker = attack.sticker(model, x, targets(labels), mask=mask)
        pixels = sticker.delta[0][:, mask > 0].T
        return torch.cdist(pixels, torch.tensor(colours)).amin(1).mean().item()

    assert offset(printable_colours=colours) < 0.25 * offset()


def test_low_frequencies_only(problem):
    from scipy.fft import dctn

    model, x, labels, _ = problem
    sticker = Attack(steps=30, low_frequencies=4).sticker(model, x, targets(labels))
    spectrum = np.abs(dctn(sticker.delta.numpy(), axes=(2, 3), norm="ortho"))
    assert spectrum[:, :, 4:].max() < 1e-4
    assert spectrum[:, :, :, 4:].max() < 1e-4
    assert spectrum[:, :, :4, :4].max() > 0.1


def test_two_stages_find_a_smaller_mask(problem, mask):
    model, x, labels, _ = problem
    attack = Attack(steps=40, mask_share=0.3)
    sticker = attack.sticker(model, x, targets(labels), mask=mask)
    assert sticker.mask.sum() == round(0.3 * mask.sum())
    assert (torch.from_numpy(mask)[None, None] >= sticker.mask).all()
    raw, _, success = attack(model, x, targets(labels), epsilons=None, mask=mask)
    assert success.all()
    outside = (sticker.mask == 0).expand_as(x)
    assert torch.equal(raw[outside], x[outside])
    sparse = Attack(steps=40, norm=1, lam=0.2).sticker(model, x, targets(labels), mask=mask)
    dense = Attack(steps=40, norm=2, lam=0.2).sticker(model, x, targets(labels), mask=mask)
    assert sparse.perturbation(x).abs().sum() < dense.perturbation(x).abs().sum()


def test_expectation_over_transformations_makes_robust_stickers(problem, mask):
    model, x, labels, _ = problem
    views = Transformations(brightness=0.2, crop=0.15, rotation=8, perspective=0.1)
    options = {"steps": 60, "compose": "replace", "seed": 1}
    plain = Attack(**options).sticker(model, x, targets(labels), mask=mask)
    robust = Attack(transformations=views, samples=4, **options).sticker(
        model, x, targets(labels), mask=mask
    )
    like = torch.zeros(())
    test = next(views.batches(1, 40, torch.Generator().manual_seed(9), like))

    def judge(images, rows):
        verdict = model(images).argmax(-1) == 7
        return verdict.float(), verdict

    def fooled(sticker):
        objective = Objective(judge, x, sticker.mask, "replace", lam=0)
        return objective(sticker.delta, test)[1].mean().item()

    assert fooled(robust) > fooled(plain) + 0.05


def test_an_extra_loss_is_minimised_too(problem, mask):
    model, x, labels, _ = problem

    def redness(images):
        assert images.shape[1:] == (3, 16, 16)
        return 20 * images[:, 0].mean((1, 2))

    plain = Attack(steps=30).sticker(model, x, targets(labels), mask=mask)
    other = Attack(steps=30, extra_loss=redness).sticker(model, x, targets(labels), mask=mask)
    assert redness(other(x)).mean() < redness(plain(x)).mean() - 1


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (lambda images: images.mean(), "got ()"),
        (lambda images: images.flatten(1).sum(1, keepdim=True), "1)"),
        (lambda images: 1.0, "got float"),
    ],
)
def test_an_extra_loss_that_is_not_one_an_image_is_refused(problem, mask, loss, given):
    model, x, labels, _ = problem
    words = "expected extra_loss to return one loss an image"
    with pytest.raises(ValueError, match=f"{words}.*{re.escape(given)}$"):
        Attack(steps=1, extra_loss=loss).sticker(model, x, targets(labels), mask=mask)


def test_restarts_and_seeds(problem, mask):
    model, x, labels, _ = problem
    state = torch.random.get_rng_state()

    def delta(**options):
        return Attack(steps=5, **options).sticker(model, x, targets(labels), mask=mask).delta

    assert torch.equal(delta(), delta())
    assert not torch.equal(delta(), delta(seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)

    def judge(images, rows):
        outputs = model(images)
        return -outputs.log_softmax(-1)[:, 7], outputs.argmax(-1) == 7

    objective = Objective(judge, x, torch.from_numpy(mask)[None, None])
    one, many = (objective(delta(restarts=n), []) for n in (1, 4))
    assert (many[1].mean(), -many[0].mean()) >= (one[1].mean(), -one[0].mean())


def test_models_are_left_as_they_were(problem, mask):
    model, x, labels, network = problem
    Attack(steps=2).sticker(model, x, labels, mask=mask)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"samples": 0}, "samples >= 1"),
        ({"restarts": -1}, "restarts >= 1"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"low_frequencies": 0}, "low_frequencies >= 1"),
        ({"stepsize": 0.0}, "stepsize > 0"),
        ({"lam": -0.1}, "lam >= 0"),
        ({"norm": 3}, "norm to be 1 or 2"),
        ({"compose": "paste"}, r"compose to be one of \('add', 'replace'\)"),
        ({"mask_share": 0.0}, "mask_share"),
        ({"transformations": {"rotation": 3}}, "transformations to be None or"),
        ({"printable_colours": []}, "at least one RGB triplet"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Attack(**options)


def test_bad_calls_are_refused(problem, mask):
    model, x, labels, _ = problem
    with pytest.raises(ValueError, match=r"shape \(16, 16\).*got \(8, 8\)"):
        Attack(steps=1)(model, x, labels, epsilons=None, mask=mask[:8, :8])
    with pytest.raises(ValueError, match=f"target_classes from 0 to {CLASSES - 1}.*{CLASSES}"):
        Attack(steps=1)(model, x, targets(labels, CLASSES - 7), epsilons=None, mask=mask)
    with pytest.warns(UserWarning, match="not binary"):
        Attack(steps=1)(model, x, labels, epsilons=None, mask=mask + 0.1)
    gray = foolbox.PyTorchModel(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 4)).eval(), bounds=(0, 1)
    )
    with pytest.raises(ValueError, match="RGB images"):
        Attack(printable_colours=[[0, 0, 0]])(gray, x[:, :1], labels % 4, epsilons=None)


def test_other_frameworks_are_refused():
    jnp = pytest.importorskip("jax.numpy")
    model = foolbox.JAXModel(lambda x: x.reshape((len(x), -1))[:, :4], bounds=(0, 1))
    with pytest.raises(TypeError, match="PyTorch"):
        Attack(steps=1)(model, jnp.zeros((2, 3, 4, 4)), jnp.zeros(2, int), epsilons=None)

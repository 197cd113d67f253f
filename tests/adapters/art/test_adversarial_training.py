import copy

import foolbox
import numpy as np
import pytest

pytest.importorskip("art")
torch = pytest.importorskip("torch")

from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402

from foolart.adapters.art.adversarial_training import (  # noqa: E402
    AdversarialTraining,
    StepLeastLikely,
)
from foolart.adapters.art.boundary_projection import BoundaryProjection  # noqa: E402
from foolart.adapters.art.foolbox_attack import FoolboxAttack  # noqa: E402


@pytest.fixture
def classifier(trained):
    network = copy.deepcopy(trained).requires_grad_(True)
    return PyTorchClassifier(
        network,
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(network.parameters(), lr=0.005),
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


REFERENCES = {
    "bp": lambda c: BoundaryProjection(c, max_iter=8, verbose=False),
    "ddn": lambda c: FoolboxAttack(c, foolbox.attacks.DDNAttack(steps=8), verbose=False),
    "fgsm": lambda c: FastGradientMethod(c, eps=0.15),
    "pgd2": lambda c: ProjectedGradientDescent(
        c, norm=2, eps=1.0, eps_step=0.3, max_iter=6, verbose=False
    ),
    "step-ll": lambda c: StepLeastLikely(c, eps=0.15),
}


def robust(classifier, x, y):
    attack = ProjectedGradientDescent(
        classifier, norm=2, eps=0.8, eps_step=0.2, max_iter=10, verbose=False
    )
    return (classifier.predict(attack.generate(x, y)).argmax(1) == y).mean()


@pytest.mark.parametrize("reference", list(REFERENCES))
def test_training_makes_robust(classifier, digits, reference):
    x, y = digits[0][:300], digits[1][:300]
    before = robust(classifier, x[:100], y[:100])
    training = AdversarialTraining(classifier, REFERENCES[reference](classifier), seed=1)
    told = []
    training.fit(x, y, batch_size=32, nb_epochs=4, progress=lambda *a: told.append(a))
    assert robust(classifier, x[:100], y[:100]) > before + 0.1
    assert (classifier.predict(x).argmax(1) == y).mean() > 0.9
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_epoch_is_on_originals_and_the_adversarials_of_the_network_before_it(
    classifier, digits, monkeypatch
):
    x, y = digits[0][:40], digits[1][:40]
    attack = REFERENCES["fgsm"](classifier)
    expected = attack.generate(x, y=y)
    seen = []
    fit = type(classifier).fit

    def recorded(self, images, labels, **kwargs):
        seen.append((images, labels))
        fit(self, images, labels, **kwargs)

    monkeypatch.setattr(type(classifier), "fit", recorded)
    AdversarialTraining(classifier, attack).fit(x, y, nb_epochs=2)
    np.testing.assert_array_equal(seen[0][0], np.concatenate([x, expected]))
    np.testing.assert_array_equal(seen[0][1], np.concatenate([y, y]))
    assert not np.array_equal(seen[1][0][40:], expected)
    AdversarialTraining(classifier, attack, clean=False).fit(x, y, nb_epochs=1)
    assert seen[2][0].shape == x.shape


def test_perturbations_are_kept_within_a_distance(classifier, digits):
    x, y = digits[0][:40], digits[1][:40]
    attack = FastGradientMethod(classifier, eps=0.3)
    training = AdversarialTraining(classifier, attack, max_distance=0.5)
    found = training.attack.generate(x, y=y)
    whole = attack.generate(x, y=y)
    norms = np.linalg.norm((found - x).reshape(40, -1), axis=1)
    np.testing.assert_allclose(norms, 0.5, rtol=1e-4)
    share = 0.5 / np.linalg.norm((whole - x).reshape(40, -1), axis=1)
    np.testing.assert_allclose(found - x, (whole - x) * share[:, None, None, None], atol=1e-6)


@pytest.mark.parametrize("refresh", ["epoch", "batch"])
def test_the_seed_decides_and_global_generators_are_put_back(trained, classifier, digits, refresh):
    x, y = digits[0][:64], digits[1][:64]
    state = copy.deepcopy(trained.state_dict())
    weights = []
    for seed in (0, 0, 1):
        classifier.model.load_state_dict(state)
        classifier._optimizer = torch.optim.Adam(classifier.model.parameters(), lr=0.005)
        np.random.seed(seed + 17 * len(weights))
        before = np.random.get_state()[1].copy(), torch.get_rng_state()
        attack = FastGradientMethod(classifier, eps=0.1)
        training = AdversarialTraining(classifier, attack, refresh=refresh, seed=seed)
        training.fit(x, y, batch_size=16, nb_epochs=1)
        weights.append(classifier.model[0].weight.detach().clone())
        assert np.array_equal(np.random.get_state()[1], before[0])
        assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_step_goes_to_the_least_likely_class(classifier, digits):
    x = digits[0][:20]
    before = x.copy()
    found = StepLeastLikely(classifier, eps=0.1, batch_size=7).generate(x, y=digits[1][:20])
    inputs = torch.from_numpy(x).requires_grad_()
    logits = classifier.model.eval()(inputs)
    loss = torch.nn.functional.cross_entropy(logits, logits.argmin(1), reduction="sum")
    (g,) = torch.autograd.grad(loss, inputs)
    expected = (inputs.detach() - 0.1 * g.sign()).clamp(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(x, before)
    target = logits.argmin(1, keepdim=True)
    with torch.no_grad():
        assert (classifier.model(torch.from_numpy(found)).gather(1, target)).mean() > (
            logits.gather(1, target).mean()
        )


def test_bad_input_is_refused(classifier, classify):
    attack = FastGradientMethod(classifier)
    for arguments, message in (
        ((classify(), attack), "on the classifier that is trained"),
        ((classifier, "fgsm"), "got str"),
        ((classifier, FastGradientMethod(classifier, targeted=True)), "got a targeted one"),
    ):
        with pytest.raises(ValueError, match=message):
            AdversarialTraining(*arguments)
    with pytest.raises(ValueError, match="epoch or batch, got 'step'"):
        AdversarialTraining(classifier, attack, refresh="step")
    with pytest.raises(ValueError, match="max_distance > 0 or None, got 0"):
        AdversarialTraining(classifier, attack, max_distance=0)
    with pytest.raises(ValueError, match="eps >= 0, got -1"):
        StepLeastLikely(classifier, eps=-1)
    with pytest.raises(ValueError, match="batch_size >= 1, got 0"):
        StepLeastLikely(classifier, batch_size=0)

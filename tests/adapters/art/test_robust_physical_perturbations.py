"""RP2 as an ART attack: the Foolbox attack by ART's conventions, and its sticker."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("art")
torch = pytest.importorskip("torch")

import foolbox  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402

from foolart.adapters.art import RobustPhysicalPerturbations  # noqa: E402
from foolart.adapters.foolbox import RobustPhysicalPerturbationsAttack  # noqa: E402

MASK = np.zeros((8, 8), np.float32)
MASK[1:7, 1:7] = 1


@pytest.fixture
def sevens(digits, trained):
    """Five images of one class that the network classifies correctly."""
    images, labels = digits
    with torch.no_grad():
        right = trained(torch.from_numpy(images)).argmax(1).numpy() == labels
    return images[right & (labels == 7)][:5]


def target(count, kind="indices"):
    y = np.full(count, 2)
    return np.eye(10, dtype=np.float32)[y] if kind == "one-hot" else y


def test_it_is_the_foolbox_attack(classify, trained, sevens):
    classifier = classify()
    before = sevens.copy()
    attack = RobustPhysicalPerturbations(classifier, targeted=True, max_iter=30, verbose=False)
    adversarial = attack.generate(sevens, target(5), mask=MASK)
    assert adversarial.dtype == np.float32
    assert np.array_equal(sevens, before)
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification(torch.full((5,), 2))
    native = RobustPhysicalPerturbationsAttack(steps=30)
    _, clipped, success = native(
        model, torch.from_numpy(sevens), criterion, epsilons=None, mask=MASK
    )
    assert success.all()
    np.testing.assert_allclose(adversarial, clipped.numpy(), atol=1e-5)
    assert (classifier.predict(adversarial).argmax(1) == 2).all()
    outside = np.broadcast_to(MASK == 0, sevens.shape)
    assert np.array_equal(adversarial[outside], sevens[outside])


def test_one_sticker_for_all_whatever_the_batch_size(classify, sevens):
    options = {"targeted": True, "max_iter": 15, "verbose": False}
    results = []
    for batch_size in (2, 32):
        attack = RobustPhysicalPerturbations(classify(), batch_size=batch_size, **options)
        attack.generate(sevens, target(5, "one-hot"), mask=MASK[None])
        assert attack.sticker.delta.shape == (1, 1, 8, 8)
        results.append(attack.sticker.delta)
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_labels_default_to_predictions_and_bounds_scale(classify, trained, sevens):
    attack = RobustPhysicalPerturbations(classify(), max_iter=30, verbose=False)
    plain = attack.generate(sevens)
    assert (classify().predict(plain).argmax(1) != 7).all()
    shifted = PyTorchClassifier(
        trained,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(-1.0, 1.0),
        preprocessing=(-1.0, 2.0),
        device_type="cpu",
    )
    attack = RobustPhysicalPerturbations(shifted, max_iter=30, verbose=False)
    scaled = attack.generate(2 * sevens - 1)
    np.testing.assert_allclose((scaled + 1) / 2, plain, atol=1e-3)
    patched = attack.apply_patch(2 * sevens - 1)
    np.testing.assert_allclose(patched, scaled, atol=1e-6)


def test_a_sticker_survives_paper(classify, digits, sevens, tmp_path):
    """Saved as PNG, loaded, put on other images, judged again."""
    pytest.importorskip("PIL")
    images, labels = digits
    held = images[labels == 7][5:45]
    classifier = classify()
    attack = RobustPhysicalPerturbations(
        classifier, targeted=True, max_iter=60, compose="replace", lam=0.0, verbose=False
    )
    attack.generate(sevens, target(5), mask=MASK)
    attack.save(tmp_path / "sticker.png")
    attack.save(tmp_path / "sticker.safetensors")
    other = RobustPhysicalPerturbations(classifier, verbose=False)
    other.load(tmp_path / "sticker.png")
    composed = other.apply_patch(held)
    assert np.abs(composed - attack.apply_patch(held)).max() <= 0.5 / 255 + 1e-6
    assert (classifier.predict(composed).argmax(1) == 2).mean() > 0.9
    other.load(tmp_path / "sticker.safetensors")
    assert np.array_equal(other.apply_patch(held), attack.apply_patch(held))


def test_an_added_perturbation_is_printed_as_it_looks(classify, sevens, tmp_path):
    pytest.importorskip("PIL")
    attack = RobustPhysicalPerturbations(classify(), targeted=True, max_iter=20, verbose=False)
    attack.generate(sevens, target(5), mask=MASK)
    with pytest.raises(ValueError, match=r"sticker\.printed"):
        attack.save(tmp_path / "sticker.png")
    attack.save(tmp_path / "sticker.png", photographs=sevens)
    expected = attack.apply_patch(sevens).mean(0)
    other = RobustPhysicalPerturbations(classify(), verbose=False)
    other.load(tmp_path / "sticker.png")
    gray = other.sticker.delta[0, :1].numpy()
    np.testing.assert_allclose(MASK * gray, MASK * expected, atol=0.51 / 255)


def test_masks_that_are_not_binary_are_cut(classify, sevens):
    attack = RobustPhysicalPerturbations(classify(), max_iter=2, verbose=False)
    stray = 255 * MASK
    stray[0, 0] = 2
    with pytest.warns(UserWarning, match="not binary"):
        attack.generate(sevens, mask=stray)
    assert attack.sticker.mask[0, 0].numpy().tolist() == MASK.tolist()
    own = np.stack([MASK, MASK.T, np.roll(MASK, 1, 0)])[:, None]
    attack.generate(sevens[:3], mask=own)
    assert np.array_equal(attack.sticker.mask.numpy(), own)


def test_parameters(classify):
    attack = RobustPhysicalPerturbations(classify(), max_iter=7, batch_size=3)
    native = attack.foolbox_attack()
    assert (native.steps, native.batch_size, native.lam, native.norm) == (7, 3, 0.02, 2)
    attack.set_params(lam=np.float32(0.5), norm=1)
    assert attack.foolbox_attack().lam == 0.5
    assert "batch_size" in attack.attack_params
    assert len(set(attack.attack_params)) == len(attack.attack_params)


def test_bad_calls_are_refused(classify, sevens):
    attack = RobustPhysicalPerturbations(classify(), max_iter=1, targeted=True, verbose=False)
    with pytest.raises(ValueError, match="target classes"):
        attack.generate(sevens)
    with pytest.raises(ValueError, match=r"shape \(8, 8\).*got \(4, 4\)"):
        attack.generate(sevens, target(5), mask=MASK[:4, :4])
    with pytest.raises(ValueError, match="from 0 to 9"):
        attack.generate(sevens, np.full(5, 10), mask=MASK)
    with pytest.raises(TypeError, match="'maks'"):
        attack.generate(sevens, target(5), maks=MASK)
    for call in (lambda: attack.apply_patch(sevens), lambda: attack.save("sticker.png")):
        with pytest.raises(ValueError, match="call generate or load first"):
            call()
    attack.generate(sevens, target(5))
    with pytest.raises(ValueError, match="expected photographs for stickers"):
        attack.apply_patch(sevens[:, :, :4])
    with pytest.raises(ValueError, match="compose"):
        RobustPhysicalPerturbations(classify(), compose="paste")
    with pytest.raises(ValueError, match="norm"):
        RobustPhysicalPerturbations(classify(), norm="2")

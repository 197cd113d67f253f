from __future__ import annotations

import copy
import pickle

import foolbox
import numpy as np
import pytest
import torch
from art.config import set_data_path
from art.summary_writer import SummaryWriter

from foolart.adapters import ArtModel
from foolart.adapters.art import FoolboxAttack
from tests.adapters.art import defences

DDN = foolbox.attacks.DDNAttack(steps=10)


def face(classifier, attack=DDN, **params):
    return FoolboxAttack(classifier, attack, **{"verbose": False, **params})


def wrong(classifier, x, y):
    return classifier.predict(x).argmax(axis=1) != y


@pytest.mark.parametrize(
    "pipeline",
    [(), (defences.StraightThrough(),), (defences.Halved(), defences.Squared())],
    ids=["bare", "native", "numpy and native"],
)
@pytest.mark.parametrize(
    ("attack", "eps"),
    [
        (DDN, None),
        (DDN, 0.5),
        (foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=2, steps=10), None),
        (foolbox.attacks.LinfBasicIterativeAttack(steps=5), 0.2),
    ],
    ids=["DDN", "DDN eps", "C&W", "BIM"],
)
def test_gives_the_images_of_the_foolbox_attack(classify, batch, pipeline, attack, eps):
    x, y = map(torch.from_numpy, batch)
    classifier = classify(*pipeline)
    _, clipped, success = attack(ArtModel(classifier), x, y, epsilons=eps)
    expected = torch.where(success[:, None, None, None], clipped, x)
    result = face(classifier, attack, eps=eps).generate(*batch)
    np.testing.assert_array_equal(result, expected.numpy())
    assert success.any()


def test_gives_the_images_of_the_foolbox_attack_on_the_foolbox_model(classify, trained, batch):
    x, y = map(torch.from_numpy, batch)
    _, clipped, _ = DDN(foolbox.PyTorchModel(trained, (0, 1), device="cpu"), x, y, epsilons=None)
    np.testing.assert_array_equal(face(classify()).generate(*batch), clipped.numpy())


def test_generate(classify, batch):
    images, labels = batch
    before = images.copy()
    classifier = classify()
    result = face(classifier).generate(images, labels)
    assert result.dtype == np.float32
    assert result.shape == images.shape
    assert result.min() >= 0
    assert result.max() <= 1
    assert wrong(classifier, result, labels).all()
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(result, images)


def test_white_box_through_a_straight_through_preprocessor(classify, digits):
    """Attacking the bare model instead fools the defended one less."""
    images = digits[0][:32]
    defended = classify(defences.MirroredStraightThrough())
    labels = defended.predict(images).argmax(axis=1)
    attack = foolbox.attacks.L2BasicIterativeAttack(steps=10)
    through = face(defended, attack, eps=1.0).generate(images, labels)
    beside = face(classify(), attack, eps=1.0).generate(images)
    assert wrong(defended, through, labels).mean() > wrong(defended, beside, labels).mean() + 0.3


def test_label_forms(classify, batch):
    images, labels = batch
    attack = face(classify())
    expected = attack.generate(images, labels)
    one_hot = np.eye(10)[labels]
    for y in (labels[:, None], one_hot, one_hot.astype(np.float32), labels.astype(np.int32), None):
        np.testing.assert_array_equal(attack.generate(images, y), expected)


def test_without_labels_leaves_the_predicted_class(classify, digits, trained):
    with torch.no_grad():
        predicted = trained(torch.from_numpy(digits[0])).argmax(dim=1).numpy()
    images = digits[0][predicted != digits[1]][:4]
    classifier = classify()
    result = face(classifier).generate(images)
    assert wrong(classifier, result, classifier.predict(images).argmax(axis=1)).all()


def test_targeted(classify, batch):
    images, labels = batch
    attack = face(classify(), foolbox.attacks.DDNAttack(steps=30), targeted=True)
    result = attack.generate(images, (labels + 1) % 10)
    assert (classify().predict(result).argmax(axis=1) == (labels + 1) % 10).all()
    with pytest.raises(ValueError, match="expected target classes `y` for a targeted attack"):
        attack.generate(images)


def test_batches_change_nothing(classify, batch):
    whole = face(classify()).generate(*batch)
    np.testing.assert_allclose(face(classify(), batch_size=3).generate(*batch), whole, atol=1e-6)


def test_failures_return_the_original(classify, batch):
    attack = face(classify(), foolbox.attacks.LinfFastGradientAttack(), eps=0.08)
    result = attack.generate(*batch)
    failed = ~wrong(classify(), result, batch[1])
    np.testing.assert_array_equal(result[failed], batch[0][failed])
    assert failed.any()
    assert not failed.all()


@pytest.mark.parametrize(
    ("attack", "eps"),
    [
        (foolbox.attacks.L2ProjectedGradientDescentAttack(steps=10), 3.0),  # random start
        (foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=2, steps=20), None),
        (foolbox.attacks.LinfFastGradientAttack(), 0.8),
        (foolbox.attacks.SaltAndPepperNoiseAttack(steps=50), None),
    ],
    ids=["PGD", "C&W", "FGSM", "noise"],
)
def test_masks(classify, batch, attack, eps):
    images, labels = batch
    mask = np.zeros((8, 8))
    mask[:, 2:6] = [1, 0.5, 1, 1]
    torch.manual_seed(0)
    result = face(classify(), attack, eps=eps).generate(images, labels, mask=mask)
    np.testing.assert_array_equal(result[..., mask == 0], images[..., mask == 0])
    assert (result != images)[..., 2:6].any(axis=(1, 2, 3)).sum() >= 4


def test_mask_shapes(classify, batch):
    images, labels = batch
    attack = face(classify(), foolbox.attacks.DDNAttack(steps=15), batch_size=5)
    one = np.random.default_rng(0).random((8, 8)) < 0.7
    expected = attack.generate(images, labels, mask=one)
    for mask in (one[None], one[None, None], np.stack([one[None]] * 8), one.astype(np.float32)):
        np.testing.assert_array_equal(attack.generate(images, labels, mask=mask), expected)
    each = np.random.default_rng(1).random(images.shape) < 0.7
    result = attack.generate(images, labels, mask=each)
    np.testing.assert_array_equal(result[~each], images[~each])
    assert (result != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(attack.generate(images, labels, mask=0 * each > 1), images)


def test_modes_and_gradients_are_as_before(trained, classify, batch):
    network = copy.deepcopy(trained).train().requires_grad_(True)
    classifier = classify()
    classifier.set_params(model=classifier._make_model_wrapper(network))
    result = face(classifier).generate(*batch)
    np.testing.assert_array_equal(result, face(classify()).generate(*batch))
    assert all(m.training for m in classifier._model.modules())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_pickling(classify, batch, tmp_path):
    set_data_path(tmp_path)  # where ART keeps the weights of pickled classifiers
    attack = face(classify(), eps=1.5)
    again = pickle.loads(pickle.dumps(attack))
    assert again.eps == 1.5
    np.testing.assert_array_equal(again.generate(*batch), attack.generate(*batch))


def test_summary(classify, trained, batch):
    entries = []

    class Writer(SummaryWriter):
        def __init__(self):
            self.resets = 0

        def update(self, batch_id, global_step, **kwargs):
            kwargs["estimator"].compute_losses(kwargs["x"], kwargs["y"])
            entries.append((batch_id, global_step, kwargs))

        def reset(self):
            self.resets += 1

    network = copy.deepcopy(trained).train()
    classifier = classify()
    classifier.set_params(model=classifier._make_model_wrapper(network))
    writer = Writer()
    attack = face(classifier, summary_writer=writer, batch_size=5)
    result = attack.generate(*batch)
    np.testing.assert_array_equal(result, face(classify(), batch_size=5).generate(*batch))
    assert [e[:2] for e in entries] == [(b, i) for b in (0, 1) for i in range(10)]
    np.testing.assert_array_equal(entries[0][2]["x"], batch[0][:5])
    np.testing.assert_array_equal(entries[10][2]["y"], np.eye(10)[batch[1][5:]])
    assert np.abs(entries[0][2]["grad"]).max() > 0
    assert writer.resets == 1
    assert network.training


def test_progress(classify, batch, capsys):
    face(classify(), verbose=True, batch_size=2).generate(*batch)
    assert "FoolboxAttack" in capsys.readouterr().err
    face(classify()).generate(*batch)
    assert capsys.readouterr().err == ""


def test_set_params(classify, batch):
    attack = face(classify())
    attack.set_params(attack=foolbox.attacks.LinfFastGradientAttack(), eps=np.float32(0.3))
    assert np.abs(attack.generate(*batch) - batch[0]).max() == pytest.approx(0.3)
    with pytest.raises(ValueError, match='"steps" cannot be set'):
        attack.set_params(steps=3)


def test_repr(classify):
    assert "batch_size=32" in repr(face(classify()))


def test_float64_and_lists_are_taken(classify, batch):
    expected = face(classify()).generate(*batch)
    result = face(classify()).generate(batch[0].astype(np.float64), list(batch[1]))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(face(classify()).generate(batch[0].tolist(), batch[1]), expected)

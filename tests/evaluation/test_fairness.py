from __future__ import annotations

import eagerpy as ep
import foolbox
import pytest

from ..toolkits import needs_fmn

torch = pytest.importorskip("torch")

from foolart.evaluation.catalogue import build_attack  # noqa: E402
from foolart.evaluation.fairness import check, problem  # noqa: E402
from foolart.evaluation.specs import Spec  # noqa: E402


def flags(what):
    return check(build_attack(Spec.of(what, "attack"))).flags


@pytest.mark.parametrize("distance", ["l1", "l2", "linf"])
def test_the_true_distances_are_true(distance):
    norm = getattr(foolbox.distances, distance)
    x, y, model, true = problem(norm)
    assert (model(x).argmax(1) == y).all()
    w = model(torch.eye(192).reshape(192, 3, 8, 8)) - model(torch.zeros(1, 3, 8, 8))
    w = w[:, 1] - w[:, 0]
    step = {"l1": w * (w.abs() == w.abs().max()), "l2": w, "linf": w.sign()}[distance]
    step = step / norm(torch.zeros(1, 192), step[None]).reshape(())
    for k in range(len(x)):
        away = -1 if y[k] else 1
        for factor, crosses in [(0.99, False), (1.01, True)]:
            moved = x[k] + away * factor * true[k] * step.reshape(x[k].shape)
            assert (model(moved[None]).argmax(1) != y[k]).item() == crosses


@pytest.mark.parametrize(
    "what",
    [
        "ddn(steps=40)",
        "deepfool",
        "deepfool-linf",
        pytest.param("fmn-linf(steps=30)", marks=needs_fmn),
        "boundary-projection",
    ],
)
def test_sound_attacks_pass(what):
    found = check(build_attack(Spec.of(what, "attack")))
    assert found.flags == ()
    assert 0.99 < found.ratio <= 1.25


@needs_fmn
def test_foolboxs_fmn_is_found_out():
    assert any("times the true distance" in f for f in flags("foolbox:L2FMNAttack(steps=30)"))


def test_foolboxs_cw_is_found_out():
    shipped = flags("foolbox:L2CarliniWagnerAttack(steps=20, binary_search_steps=5)")
    assert "zeros on failure" in shipped
    assert "zeros on failure" not in flags("cw(steps=20, binary_search_steps=5)")


class Made(foolbox.attacks.base.MinimizationAttack):
    """An attack with a defect of one's choice."""

    distance = foolbox.distances.l2

    def __init__(self, defect):
        self.defect = defect

    def run(self, model, inputs, criterion, *, early_stop=None, **kwargs):
        sound = foolbox.attacks.DDNAttack(steps=40).run(model, inputs, criterion)
        y, restore = ep.astensor_(sound)
        x = ep.astensor(inputs)
        if self.defect == "bounds":
            y = y - 1.0
        if self.defect == "nan":
            y = y * float("nan")
        if self.defect == "far":
            y = x + 1.6 * (y - x)
        if self.defect == "batch":
            y = y + 1e-4 * y.mean()
        if self.defect == "raises":
            raise RuntimeError("no; never")
        return restore(y)


@pytest.mark.parametrize(
    ("defect", "flag"),
    [
        ("bounds", "leaves the bounds"),
        ("nan", "returns NaN"),
        ("far", "times the true distance"),
        ("raises", "self-check failed: RuntimeError: no, never"),
    ],
)
def test_every_defect_has_its_flag(defect, flag):
    assert any(flag in found for found in flags(("made", Made(defect))))
    assert not any(";" in found for found in flags(("made", Made(defect))))


def test_an_attack_that_mixes_its_images_is_run_on_each_alone():
    assert check(build_attack(Spec("made", value=Made("batch")))).alone
    assert not check(build_attack(Spec("made", value=Made("")))).alone
    # DeepFool goes on until its slowest image is done: the result is the same, the cost is not.
    assert check(build_attack(Spec("deepfool"))).alone


def test_random_attacks_do_not_depend_on_the_batch():
    assert not check(build_attack(Spec("pgd-l2", {"epsilon": 1.0, "steps": 3}))).alone


def test_an_endless_attack_is_let_go():
    assert flags("cw(steps=3000)") == ("not self-checked: too many queries",)

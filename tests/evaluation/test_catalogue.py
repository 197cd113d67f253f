from __future__ import annotations

import importlib.metadata
import sys
import types

import foolbox
import pytest

from ..toolkits import needs_fmn

torch = pytest.importorskip("torch")

from foolart.evaluation import catalogue  # noqa: E402
from foolart.evaluation.catalogue import Entry, attacks, build_attack  # noqa: E402
from foolart.evaluation.specs import Spec  # noqa: E402


def build(what):
    return build_attack(Spec.of(what, "attack"))


def test_every_attack_of_ours_is_there():
    for name in catalogue.OURS:
        assert attacks()[name].origin == "foolart"


def test_every_built_in_can_be_made():
    there = attacks()
    missing = {name for name in catalogue.BUILT_IN if name not in there}
    since = {
        "3.3.2": ("fmn-l1", "fmn-linf", "adam-pgd-linf", "pointwise"),
        "3.3.3": ("adam-pgd-l2", "hop-skip-jump"),  # the former was misspelt
        "3.3.4": ("mi-fgm", "mi-fgsm"),
    }
    young = [names for first, names in since.items() if foolbox.__version__ < first]
    assert missing == {name for names in young for name in names}
    for name in catalogue.BUILT_IN:
        if name == "brendel-bethge" or name in missing:
            continue  # needs numba
        required = {"virtual-adversarial": "steps=5"}.get(name, "")
        built = build(f"{name}({required})")
        assert isinstance(built.attack, foolbox.attacks.base.Attack)


@pytest.mark.parametrize("name", ["ddn", "DDN", "DDNAttack", "foolbox:DDNAttack"])
def test_names_are_those_of_the_catalogue_or_the_class(name):
    assert isinstance(build(f"{name}(steps=7)").attack, foolbox.attacks.DDNAttack)
    assert build(f"{name}(steps=7)").attack.steps == 7


def test_attacks_with_a_budget_are_searched_unless_it_is_given():
    from foolart.adapters.foolbox import MinimalEpsilon

    given = build("pgd-l2(epsilon=0.5, steps=3)")
    searched = build("pgd-l2(steps=3)")
    assert (given.epsilon, given.alone) == (0.5, False)
    assert isinstance(searched.attack, MinimalEpsilon)
    assert searched.epsilon is None
    assert searched.alone


def test_repeats_and_nested_attacks():
    built = build("ddn(steps=2, repeats=3)").attack
    assert (type(built).__name__, built.times) == ("Repeated", 3)
    assert build("boundary(init_attack='ddn(steps=2)')").attack.init_attack.steps == 2


def test_arts_attacks_are_run_on_each_image_alone():
    pytest.importorskip("art")
    built = build("art:ProjectedGradientDescent(norm=2, max_iter=3, epsilon=0.5)")
    assert (built.epsilon, built.alone) == (0.5, True)
    assert built.attack.distance.p == 2
    assert build("art:CarliniL2Method(max_iter=2)").epsilon is None
    with pytest.raises(ValueError, match="did you mean art:DeepFool"):
        build("art:DeepFoolAttack")
    with pytest.raises(ValueError, match="attack art:DeepFool: expected parameters of DeepFool"):
        build("art:DeepFool(steps=3)")


def test_a_missing_toolkit_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "art.attacks", None)
    with pytest.raises(ValueError, match=r'art:DeepFool needs ART .*pip install "foolart\[art\]"'):
        build("art:DeepFool")


def test_objects_and_imports_are_attacks_too():
    attack = foolbox.attacks.DDNAttack(steps=3)
    assert build(("mine", attack)).attack is attack
    assert build("foolbox.attacks:DDNAttack(steps=3)").attack.steps == 3


def test_other_packages_add_attacks(monkeypatch):
    points = [
        types.SimpleNamespace(
            name="theirs",
            value="p:A",
            dist=types.SimpleNamespace(name="their-package"),
            load=lambda: foolbox.attacks.DDNAttack,
        ),
        types.SimpleNamespace(
            name="slow",
            value="p:B",
            dist=None,
            load=lambda: Entry("slow", foolbox.attacks.DDNAttack, "Slow", "p", alone=True),
        ),
    ]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: points)
    assert attacks()["theirs"].origin == "their-package"
    assert build("theirs(steps=4)").attack.steps == 4
    assert build("slow").alone

    def broken():
        raise ImportError("no such module")

    points[0].load = broken
    with pytest.raises(ValueError, match=r"their-package.*cannot be imported.*uninstall it"):
        attacks()
    assert importlib.metadata.entry_points is not catalogue.entry_points


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("dnn", "unknown attack 'dnn': did you mean ddn"),
        ("foolbox:L2CarliniWagner", "did you mean .*foolbox:L2CarliniWagnerAttack"),
        ("ddn(step=3)", "unknown parameter of attack ddn: 'step': did you mean steps"),
        ("boundary-projection(steps=0)", "attack boundary-projection: expected steps >= 1, got 0"),
        ("contrast(distance=l5)", "unknown distance of attack .*'l5'"),
        ("ddn(search={})", "search is for fixed-epsilon attacks"),
        ("builtins:dict", "expected a foolbox.attacks.Attack, got dict"),
    ],
)
def test_what_is_wrong_with_an_attack_is_said(what, message):
    with pytest.raises(ValueError, match=message):
        build(what)


def test_mended_attacks_return_the_input_where_they_fail(linear):
    model = foolbox.PyTorchModel(_Never().eval(), bounds=(0, 1), device="cpu")
    labels = torch.zeros(len(linear.images), dtype=torch.int64)
    built_in = {"cw": foolbox.attacks.L2CarliniWagnerAttack, "ead": foolbox.attacks.EADAttack}
    for name, shipped in built_in.items():
        attack = build(f"{name}(steps=3, binary_search_steps=2)").attack
        found = attack.run(model, linear.images, labels)
        assert torch.equal(found, linear.images)
        defect = shipped(steps=3, binary_search_steps=2).run(model, linear.images, labels)
        assert (defect == 0).all()


class _Never(torch.nn.Module):
    """Always class 0, with gradients."""

    def forward(self, x):
        z = x.flatten(1).sum(1) * 1e-3
        return torch.stack((z + 10, -z), dim=1)


@needs_fmn
def test_mended_fmn_projects_and_foolboxs_does_not(linear):
    true = linear.distances()
    ratios = {}
    for name in ("fmn(steps=30)", "foolbox:L2FMNAttack(steps=30)"):
        attack = build(name).attack
        found, _, success = attack(linear.model(), linear.images, linear.labels, epsilons=None)
        assert success.sum() >= 3  # FMN may end exactly on the boundary of a linear model
        ratio = (found - linear.images).flatten(1).norm(dim=1) / true
        ratios[name] = ratio[success].max().item()
    assert ratios["fmn(steps=30)"] < 1.1
    assert ratios["foolbox:L2FMNAttack(steps=30)"] > 1.5


def test_an_attack_of_a_newer_foolbox_is_not_mistaken_for_a_mistyped_one(monkeypatch):
    monkeypatch.delattr(foolbox.attacks, "DDNAttack")
    with pytest.raises(ValueError, match="'ddn' is in newer releases of Foolbox than"):
        build("ddn")

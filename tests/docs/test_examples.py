"""Every example runs to its end on small inputs, and says what its page quotes."""

from __future__ import annotations

import json
import runpy
import sys

import pytest

from .pages import ROOT

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.docs
pytest.importorskip("torch")
pytest.importorskip("PIL")

SCRIPTS = {
    "foolbox_attack": (["--count", "4"], "as PNG", None),
    "art_attack": (["--count", "4"], "through the defence", "art"),
    "stickers": (["--count", "2", "--steps", "2"], "photographs are toasters", None),
}


def test_all_scripts_are_run():
    there = {path.stem for path in EXAMPLES.glob("*.py")}
    assert there == {*SCRIPTS, "my_defence"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name, small_zoo, tmp_path, monkeypatch, capsys):
    arguments, said, needs = SCRIPTS[name]
    if needs:
        pytest.importorskip(needs)
    monkeypatch.chdir(tmp_path)
    if name == "stickers":  # the mask lies on photographs of 224 x 224
        monkeypatch.setattr("foolbox.utils.samples", _large("foolbox.utils.samples"))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert said in capsys.readouterr().out


def _large(path):
    import foolbox
    import torch

    small = foolbox.utils.samples

    def samples(*args, **kwargs):
        images, labels = small(*args, **kwargs)
        return torch.nn.functional.interpolate(images, size=224), labels

    return samples


@pytest.mark.parametrize("name", ["naive", "honest"])
def test_defences_of_ones_own_can_be_named(name, monkeypatch):
    import torch

    from foolart.evaluation.defences import build_defence
    from foolart.evaluation.specs import Spec

    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "my_defence", raising=False)
    defence = build_defence(Spec.parse(f"my_defence:{name}(levels=2)", "defence"))
    x = torch.tensor([[[[0.2, 0.8]]]], requires_grad=True)
    y = defence(x)
    assert y.flatten().tolist() == [0, 1]
    if name == "honest":
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.flatten().tolist() == [1, 1]


def test_the_plugin_is_found_by_its_entry_point(tmp_path, monkeypatch, digits):
    import torch

    from foolart.evaluation.catalogue import attacks, build_attack
    from foolart.evaluation.scenario import tomllib
    from foolart.evaluation.specs import Spec

    project = tomllib.loads((EXAMPLES / "plugin" / "pyproject.toml").read_text())["project"]
    # What pip would write.
    written = tmp_path / "foolart_random-0.1.0.dist-info"
    written.mkdir()
    (written / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["foolart.attacks"]
    lines = [f"{name} = {value}" for name, value in points.items()]
    (written / "entry_points.txt").write_text("\n".join(["[foolart.attacks]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLES / "plugin"))

    assert attacks()["random-directions"].origin == "foolart-random"
    attack = build_attack(Spec.parse("random-directions(length=0.9)", "attack")).attack
    _, found, success = attack(digits.model(), digits.images, digits.labels, epsilons=None)
    changed = (found != digits.images).flatten(1).any(1)
    assert success.any()
    assert torch.equal(changed, success)
    assert torch.equal(digits.model()(found).argmax(-1) != digits.labels, success)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run_from_their_first_cell_to_the_last(path, small_zoo, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text())
    names: dict[str, object] = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}[{number}]", "exec"), names)
    assert not any(cell.get("outputs") for cell in notebook["cells"])

from __future__ import annotations

import importlib
import subprocess
import sys

import foolbox
import pytest

import foolart.adapters
import foolart.adapters.foolbox
from foolart.adapters import register, unregister


@pytest.fixture(autouse=True)
def clean():
    unregister()
    yield
    unregister()


def test_classes_are_where_users_look_for_them():
    art = pytest.importorskip("art")
    names = register()
    ours = foolart.adapters.foolbox.BoundaryProjectionAttack
    assert foolbox.attacks.BoundaryProjectionAttack is ours
    assert art.attacks.evasion.BoundaryProjection is foolart.adapters.art.BoundaryProjection
    assert art.attacks.evasion.FoolboxAttack is foolart.adapters.art.FoolboxAttack
    defences, faces = art.defences, foolart.adapters.art
    assert defences.preprocessor.BitDepthReduction is faces.BitDepthReduction
    assert defences.transformer.evasion.PatchReplacementTransformer is (
        faces.PatchReplacementTransformer
    )
    assert {"foolbox.attacks.Quantized", "art.attacks.evasion.LagrangianQuantization"} <= {*names}
    assert not hasattr(art.attacks.evasion, "ArtModel")
    assert not any("BridgedAttack" in name or "NativeAttack" in name for name in names)


def test_again_and_back():
    before = set(vars(foolbox.attacks))
    names = register()
    assert register() == names
    unregister()
    unregister()
    assert set(vars(foolbox.attacks)) == before
    assert register() == names


def test_does_not_overwrite(monkeypatch):
    before = set(vars(foolbox.attacks))
    monkeypatch.setattr(foolbox.attacks, "QuantizedDDNAttack", "theirs", raising=False)
    with pytest.raises(RuntimeError, match=r"foolbox\.attacks\.QuantizedDDNAttack is 'theirs'"):
        register()
    assert set(vars(foolbox.attacks)) == before | {"QuantizedDDNAttack"}
    assert foolbox.attacks.QuantizedDDNAttack == "theirs"


def test_leaves_what_others_put_there_meanwhile():
    register()
    foolbox.attacks.QuantizedDDNAttack = "theirs"
    unregister()
    assert foolbox.attacks.QuantizedDDNAttack == "theirs"
    del foolbox.attacks.QuantizedDDNAttack


def test_without_art_and_frameworks():
    """The core has Foolbox only."""
    code = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('art', 'torch', 'jax', 'tensorflow'):
            raise ModuleNotFoundError(f'no {name}', name=name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == 'art' else found(name, *a)
sys.meta_path.insert(0, Missing())
import foolart.adapters, foolart.adapters.art, foolbox
names = foolart.adapters.register()
assert 'foolbox.attacks.BoundaryProjectionAttack' in names, names
assert not any(name.startswith('art.') for name in names), names
for make in (lambda: foolart.adapters.ArtModel, lambda: foolart.adapters.art.FoolboxAttack):
    try:
        make()
    except ImportError as error:
        assert 'pip install "foolart[art]"' in str(error), error
    else:
        raise SystemExit('no error')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_names():
    for module in map(importlib.import_module, ("foolart.adapters", "foolart.adapters.art")):
        with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
            module.Nothing  # noqa: B018

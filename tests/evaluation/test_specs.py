from __future__ import annotations

import pytest

from foolart.evaluation.specs import Spec


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("ddn", "ddn", {}),
        ("ddn(steps=100)", "ddn", {"steps": 100}),
        ("boundary-projection(levels=None, loss=margin)", "boundary-projection",
         {"levels": None, "loss": "margin"}),
        ("a/b.npz(images=x, budgets=[1, 2.5])", "a/b.npz", {"images": "x", "budgets": [1, 2.5]}),
        ("timm:resnet50(pretrained=true)", "timm:resnet50", {"pretrained": True}),
        ('net.safetensors(factory="package.module:make")', "net.safetensors",
         {"factory": "package.module:make"}),
    ],
)  # fmt: skip
def test_text_becomes_a_name_with_parameters(text, name, params):
    spec = Spec.of(text, "attack")
    assert (spec.name, dict(spec.params)) == (name, params)


@pytest.mark.parametrize("text", ["ddn", "ddn(steps=100)", "x(a=None, b='c d', label=L)"])
def test_tables_and_text_say_the_same(text):
    spec = Spec.of(text, "attack")
    again = Spec.of(spec.table(), "attack")
    assert again == spec
    assert again.key() == spec.key()


@pytest.mark.parametrize("text", ["ddn(100)", "ddn(steps=)", "ddn(steps=1"])
def test_bad_text_is_quoted(text):
    if text.endswith(")"):
        with pytest.raises(ValueError, match="NAME\\(key=value"):
            Spec.of(text, "attack")
    else:
        assert Spec.of(text, "attack").name == text


def test_an_existing_file_may_have_any_name(tmp_path):
    path = tmp_path / "data (1).npz"
    path.touch()
    assert Spec.of(str(path), "data set").name == str(path)


def test_an_object_is_asked_for_where_only_its_name_is_known():
    spec = Spec.of(("net", object()), "model")
    again = Spec.of(spec.table(), "model")
    assert again.label == "net"
    with pytest.raises(ValueError, match="given as a Python object"):
        again.needed()

from __future__ import annotations

import pytest
import torch
from torch import nn

from foolart.evaluation.defences import build_defence, defences, defended
from foolart.evaluation.engine import evaluate
from foolart.evaluation.models import load_model
from foolart.evaluation.planning import make_plan
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.specs import Spec
from foolart.plugins.blurnet import Blur
from foolart.plugins.deflection import ActivationMap, PixelDeflection
from foolart.plugins.filters import BitDepthReduction, MedianSmoothing
from foolart.plugins.patches import PatchReplacer
from foolart.plugins.randomised import RandomChoice, is_random


def build(text):
    return build_defence(Spec.of(text, "defence"))


def test_defences_by_name():
    assert build("bit-depth(bits=5)").bits == 5
    assert build("median(size=2)").size == 2
    assert build("gaussian-noise(std=0.224, seed=3)").std == 0.224
    assert isinstance(build("e8(scale=0.1)"), PatchReplacer)
    chain = build({"name": "chain", "defences": ["bit-depth(bits=3)", "median"]})
    assert [type(part) for part in chain] == [BitDepthReduction, MedianSmoothing]
    either = build({"name": "random", "defences": ["bit-depth(bits=3)", "median"], "seed": 4})
    assert isinstance(either, RandomChoice)
    assert either.seed == 4


def test_defences_of_layers():
    found = build("e8(scale=0.1, shape=[8, 1, 1], layer='features.0')")
    assert list(found) == ["features.0"]
    both = {"name": "layers", "input": "median", "features.0": "e8(shape=[8, 1, 1])"}
    assert {name: type(part) for name, part in build(both).items()} == {
        "input": MedianSmoothing,
        "features.0": PatchReplacer,
    }


def test_blurnets_filter_by_name():
    assert build("blur(size=3)").weight.shape == (3, 3)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten())
    model = load_model(Spec.of(("net", network.eval()), "model"))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    behind = defended(model, Spec.of("blur(size=3, layer='0')", "defence")).foolbox
    torch.testing.assert_close(behind(x), network[1:](Blur(3)(network[0](x))))
    with pytest.raises(ValueError, match="odd size"):
        build("blur(size=2)")
    with pytest.raises(ValueError, match="convolutional layer"):
        defended(model, Spec.of("blur(layer='2')", "defence")).foolbox(x)


def test_arts_preprocessors_by_name():
    pytest.importorskip("art")
    found = build("art:JpegCompression(quality=50)")
    assert found.preprocessor.quality == 50
    assert found(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    assert is_random(build({"name": "chain", "defences": ["median", "art:TotalVarMin(prob=0.5)"]}))


def test_pixel_deflection_looks_where_the_network_does():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    ).eval()
    model = load_model(Spec.of(("net", network), "model"))
    what = {"name": "pixel-deflection", "features": "1", "classifier": "4", "top": 2}
    for table in (what, {"name": "chain", "defences": [what]}):
        behind = defended(model, Spec.of(table, "defence"))
        (deflection,) = [m for m in behind.defence.modules() if isinstance(m, PixelDeflection)]
        x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        expected = ActivationMap(network, "1", "4", top=2)(x)
        torch.testing.assert_close(deflection.activation(x), expected)
    with pytest.raises(ValueError, match="both features and classifier"):
        build("pixel-deflection(features=a)")
    with pytest.raises(ValueError, match="nearest are"):
        defended(model, Spec.of({**what, "features": "9"}, "defence"))
    for text in ("pixel-deflection(model=3)", "pixel-deflection(deflection=3)"):
        with pytest.raises(ValueError, match=r"parameter of defence pixel-deflection: .*did you"):
            build(text)


def test_patch_replacement_reads_its_codebook(tmp_path):
    codebook = pytest.importorskip("foolart.plugins.codebook")
    pytest.importorskip("safetensors")
    points = torch.rand(1, 7, 9, generator=torch.Generator().manual_seed(0))
    codebook.ProductQuantizer(points, (1, 3, 3), universal=True).save(tmp_path / "c.safetensors")
    found = build({"name": "patch-replacement", "codebook": str(tmp_path / "c.safetensors")})
    assert found.quantizer.count == 7
    assert found(torch.rand(2, 1, 9, 9)).shape == (2, 1, 9, 9)


def test_objects_and_factories():
    defence = BitDepthReduction(3)
    assert build(("mine", defence)) is defence
    assert isinstance(build("foolart.plugins.filters:MedianSmoothing(size=5)"), MedianSmoothing)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bit-dept(bits=3)", "unknown defence 'bit-dept': did you mean bit-depth"),
        ("bit-depth(bit=3)", "did you mean bits"),
        ("bit-depth(bits=0)", "bits"),
        ("gaussian-noise(std=-1)", "std"),
        ("patch-replacement(codebook=nowhere.safetensors)", "nowhere.safetensors"),
        (("a number", 3), "expected a torch.nn.Module"),
        ({"name": "layers", "input": "median", "layer": "x"}, "names its layers already"),
    ],
)
def test_bad_defences_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        build(text)


def test_every_name_is_listed_with_what_it_is():
    for name, entry in defences().items():
        assert entry.summary, name


@pytest.fixture(scope="module")
def run(digits_files, tmp_path_factory):
    """Two defences under all threat models, and the random one again in other batches."""
    pgd = "pgd-l2(epsilon=1.5, steps=6, rel_stepsize=0.4, random_start=false)"
    table = {
        "models": [{"name": str(digits_files / "net.pt"), "label": "net"}],
        "data": [{"name": str(digits_files / "digits.npz"), "label": "digits"}],
        "attacks": [pgd, "inversion"],
        "defences": ["bit-depth(bits=2)", "gaussian-noise(std=0.1)"],
        "threats": ["white-box", "transfer", "adaptive"],
        "variants": ["raw", "rounded"],
        "budgets": [1.5],
        "compute_batch": 4,
        "threads": 1,
    }

    def carry_out(**changes):
        return evaluate({**table, **changes}, tmp_path_factory.mktemp("run"), report=False)

    otherwise = {"run": {"batch_size": 2, "shards": 2}, "defences": ["gaussian-noise(std=0.1)"]}
    return carry_out(), carry_out(**otherwise)


def test_each_defence_meets_every_threat_model_it_has_to(run):
    threats = {(line.defence, line.threat) for line in run[0].requested}
    assert threats == {
        ("", "white-box"),
        ("", "decision"),
        ("bit-depth(bits=2)", "true-gradient"),
        ("bit-depth(bits=2)", "bpda"),
        ("bit-depth(bits=2)", "bpda-smooth"),
        ("bit-depth(bits=2)", "decision"),
        ("bit-depth(bits=2)", "transfer"),
        ("gaussian-noise(std=0.1)", "true-gradient"),
        ("gaussian-noise(std=0.1)", "bpda"),
        ("gaussian-noise(std=0.1)", "bpda-eot"),
        ("gaussian-noise(std=0.1)", "decision"),
        ("gaussian-noise(std=0.1)", "transfer"),
    }
    assert run[0].complete


def test_random_defences_too_give_the_same_in_any_batch(run):
    rows = [
        [repr(row) for row in results.records if row.defence == "gaussian-noise(std=0.1)"]
        for results in run
    ]
    assert rows[0] == rows[1] != []


def test_rounding_hides_the_gradient_and_bpda_finds_the_way(run):
    found = {item.defence: item for item in run[0].summary.robustness}
    bits = found["bit-depth(bits=2)"]
    assert bits.threats["true-gradient"] == bits.clean
    assert bits.threats["bpda"].value < bits.clean.value
    assert bits.worst.value <= min(threat.value for threat in bits.threats.values())
    assert any(flag.startswith("true-gradient: no gradient on") for flag in bits.flags)
    assert not any("not attacked" in flag for flag in bits.flags)
    assert not any("true-gradient" in flag for flag in found["gaussian-noise(std=0.1)"].flags)


def test_passes_of_eot_are_counted(run):
    rows = {row.threat: row for row in run[0].records if row.correct and row.variant == "raw"}
    assert rows["bpda-eot"].backwards == 10 * rows["bpda"].backwards


def test_a_defence_that_does_not_fit_is_refused(table, tmp_path):
    with pytest.raises(ValueError, match="do not fit"):
        evaluate(table(defences=[("narrow", nn.Conv2d(5, 1, 1))]), tmp_path / "a", report=False)


def test_planning_holds_the_graph_of_one_draw_only(table):
    graphs = []

    class Asked(nn.Module):
        def forward(self, x):
            graphs.append(x.requires_grad)
            return x.flatten(1)[:, :10]

    make_plan(Scenario.of(table(models=[("asked", Asked())], defences=["gaussian-noise"])))
    assert sum(graphs) == 2

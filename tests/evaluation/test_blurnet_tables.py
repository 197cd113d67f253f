"""BlurNet's evaluations and spectra, on networks whose behaviour is known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from foolart.evaluation.blurnet_tables import (  # noqa: E402
    filtered,
    judge,
    transfer_table,
    white_box_table,
)
from foolart.evaluation.spectra import (  # noqa: E402
    high_frequency_share,
    log_spectrum,
    plot_spectra,
    spectra,
)


class Means(torch.nn.Module):
    """Logits are ten times the channel means of an identity convolution."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[..., None, None])

    def forward(self, x):
        return 10 * self.conv(x).mean((2, 3))


def photographs(count=4):
    x = torch.full((count, 3, 8, 8), 0.2)
    x[:, 0] = 0.6
    return x


def test_rows_count_both_successes():
    x, attacked = photographs(), photographs()
    attacked[0, 1] = 0.8
    attacked[1, 2] = 0.8
    row = judge("means", "transfer", Means(), x, attacked, label=0, target=1, lam=0.1)
    assert (row.accuracy.value, row.changed.value, row.reached.value) == (1.0, 0.5, 0.25)
    assert row.changed.low < 0.5 < row.changed.high
    clean, stuck = (np.rint(255 * z[0].numpy()) / 255 for z in (x, attacked))
    expected = np.linalg.norm(clean - stuck) / np.linalg.norm(stuck) / 2
    assert row.dissimilarity == pytest.approx(expected, rel=1e-5)
    assert row.confidence == pytest.approx(Means()(x).softmax(1)[0, 0].item(), abs=1e-2)


def test_transfer_and_white_box_tables():
    networks = filtered(Means(), ["conv"], sizes=(3,))
    assert list(networks) == ["baseline", "input 3x3", "conv 3x3"]
    x, options = photographs(), {"steps": 30, "batch_size": 2}
    rows = transfer_table(networks, x, None, label=0, target=1, **options)
    assert [row.network for row in rows] == list(networks)
    assert rows[0].reached.value == 1.0
    # One linear layer without bias: blurring its input or its output is the same.
    assert rows[1].confidence == pytest.approx(rows[2].confidence, rel=1e-5)
    rows = white_box_table(
        {"means": Means()}, x, None, label=0, targets=range(3), lams=[0.002], **options
    )
    assert [row.target for row in rows] == [1, 2]
    assert all(row.reached.value == 1.0 for row in rows)


def test_spectra_show_where_the_energy_is(tmp_path):
    pytest.importorskip("matplotlib")
    clean = photographs(1)
    attacked = clean.clone()
    attacked[..., ::2] += 0.1
    found = spectra(Means(), "conv", clean, attacked, size=3)
    assert np.unravel_index(found["clean"][0].argmax(), (8, 8)) == (4, 4)
    # Stripes of two pixels: the Nyquist frequency, which a blur takes away.
    assert found["difference"][0][4, 0] > 1
    assert found["blurred"][0][4, 0] < found["difference"][0][4, 0]
    assert log_spectrum(clean)[0, 0, 4, 4] == pytest.approx(np.log1p(64 * 0.6))
    assert high_frequency_share(attacked - clean)[0] == pytest.approx(1)
    assert high_frequency_share(clean)[0] == pytest.approx(0)
    out = plot_spectra(found, [0, 2], tmp_path / "spectra.png")
    assert out.stat().st_size > 1000
    with pytest.raises(ValueError, match="from 0 to 2"):
        plot_spectra(found, [3], tmp_path / "spectra.png")
    with pytest.raises(ValueError, match="same shape"):
        spectra(Means(), "conv", clean, attacked[..., :4])

import sys

import numpy as np
import pytest

from headwise.tracking.figures import attention_map, learning_curves

HISTORY = [
    {"epoch": 1, "train/loss": 3.0, "valid/loss": 2.5, "valid/ndcg@10": 0.1},
    {"epoch": 2, "train/loss": 2.0},
    {"epoch": 3, "train/loss": 1.5, "valid/loss": 2.1, "valid/ndcg@10": 0.2},
]


def test_learning_curves_show_every_measured_point_and_mark_the_kept_epoch():
    figure = learning_curves(HISTORY, train="train/loss", valid=["valid/loss", "valid/ndcg@10"], best=3, title="toy")
    losses, metric = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert lines["train/loss"] == [[1, 3.0], [2, 2.0], [3, 1.5]]
    assert lines["valid/loss"] == [[1, 2.5], [3, 2.1]]
    assert lines["kept: epoch 3"] == [[3, 0], [3, 1]]
    assert [text.get_text() for text in metric.texts] == ["0.2"]


@pytest.mark.parametrize(("heads", "queries", "keys"), [(1, 2, 3), (5, 7, 11), (2, 43, 83)])
def test_an_attention_map_has_a_panel_for_each_head_on_one_scale(heads, queries, keys):
    weights = np.random.default_rng(1).random((heads, queries, keys))
    figure = attention_map(weights)
    panels = [axes for axes in figure.axes if axes.images and axes.get_visible()]
    assert len(panels) == heads
    assert {panel.images[0].get_clim() for panel in panels} == {(0, weights.max())}
    np.testing.assert_array_equal(panels[heads - 1].images[0].get_array(), weights[heads - 1])


def test_drawing_starts_no_window_and_keeps_no_state(tmp_path):
    names = [f"Film {i}" for i in range(5)]
    attention_map(np.eye(5)[None], queries=names, keys=names).savefig(tmp_path / "a.png")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()

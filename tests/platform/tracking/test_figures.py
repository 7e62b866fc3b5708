import sys

import numpy as np
import pytest

from headwise.tracking.figures import attention_map, carried_recommendation, carried_words, learning_curves

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


def test_a_recommendation_has_a_bar_for_each_item_of_its_history_newest_on_top():
    history, shares, fallen = ["Alien", "Brazil", "Casablanca"], np.array([0.2, 0.5, 0.3]), np.array([0.7, -0.1, 0])
    figure = carried_recommendation(
        history, {"attention": shares, "fall of the score": fallen}, recommended="Dune", title="user 7"
    )
    left, right = figure.axes
    names = [text.get_text() for text in left.get_yticklabels()]
    places = dict(zip(left.get_yticks().tolist(), names, strict=True))
    assert [places[place] for place in sorted(places, reverse=True)] == ["Casablanca", "Brazil", "Alien"]
    for panel, values, name in ((left, shares, "attention"), (right, fallen, "fall of the score")):
        bars = {places[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in panel.patches}
        assert bars == dict(zip(history, values.tolist(), strict=True))
        assert panel.get_xlabel() == name
    assert figure.get_suptitle() == "recommended: Dune"
    assert left.get_title(loc="left") == "user 7"


@pytest.mark.parametrize("items", [1, 2, 53])
def test_a_history_of_any_length_is_drawn(items, tmp_path):
    names = ["a title much longer than the margin of a figure could ever hold"] * items
    figure = carried_recommendation(names, {"attention": np.full(items, 1 / items)}, recommended=names[0])
    figure.savefig(tmp_path / "a.png")
    assert len(figure.axes[0].patches) == items
    assert all(text.get_window_extent().x0 >= 0 for text in figure.axes[0].get_yticklabels())


def test_each_word_has_a_row_with_its_own_span_outlined():
    words, attention = [("SEVEN", 0.2, 0.5), ("ONE", 0.6, 0.7)], np.random.default_rng(1).random((2, 11))
    figure = carried_words(np.zeros((101, 13)), words, attention, spectrogram_hop=0.01, hop=0.1, title="an utterance")
    above, below, _ = figure.axes
    np.testing.assert_allclose(below.images[0].get_array(), 100 * attention)
    assert above.images[0].get_extent() == [0, pytest.approx(1.01), 0, 13]
    assert below.images[0].get_extent() == [0, pytest.approx(1.1), 2, 0]
    outlined = [(box.get_x(), box.get_y(), box.get_width(), box.get_height()) for box in below.patches]
    assert outlined == [(0.2, 0, pytest.approx(0.3), 1), (0.6, 1, pytest.approx(0.1), 1)]
    assert [text.get_text() for text in below.get_yticklabels()] == ["SEVEN", "ONE"]
    assert (below.get_xlabel(), figure.get_suptitle()) == ("time, s", "an utterance")


def test_silence_is_drawn_too(tmp_path):
    figure = carried_words(np.zeros((7, 13)), [], np.zeros((0, 2)), spectrogram_hop=0.01, hop=0.04)
    figure.savefig(tmp_path / "a.png")
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == []


def test_drawing_starts_no_window_and_keeps_no_state(tmp_path):
    names = [f"Film {i}" for i in range(5)]
    attention_map(np.eye(5)[None], queries=names, keys=names).savefig(tmp_path / "a.png")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()

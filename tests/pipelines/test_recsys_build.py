"""A recommender from its flags: each part where it was asked for, and one message where parts or data do not go together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import nn

from headwise.errors import InputError
from headwise_pipelines.recsys.presets import PRESETS, ExportSettings, LossSettings, RecsysConfig, SASRecSettings
from headwise_pipelines.recsys.train import build, chosen_of
from headwise_recsys.interactions import Interactions
from headwise_recsys.item_features import Tags
from headwise_recsys.model import HSTU, Cosine, PositionAndTime, QueryTime, SASRec, Sessions, Transition
from headwise_recsys.splits import leave_one_out

ITEMS = 11
DATA = Interactions(
    items=np.arange(1, ITEMS + 1, dtype=np.int32),
    times=np.arange(ITEMS, dtype=np.int64),
    offsets=np.array([0, ITEMS]),
    user_ids=["u"],
    item_ids=list(range(ITEMS)),
    titles=None,
    name="toys",
    fingerprint="",
    source="toys.csv",
)


def built(data: Interactions = DATA, **settings: Any) -> SASRec:
    config = RecsysConfig(model=SASRecSettings(window=7, width=14, blocks=1, **settings))
    return build(config, data, leave_one_out(data))


def parts(model: SASRec, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.mark.parametrize(
    ("settings", "kind", "timed"),
    [
        ({"block": "hstu"}, HSTU, False),
        ({"head": "cosine"}, Cosine, False),
        ({"transition": 3}, Transition, False),
        ({"positions": "timed"}, PositionAndTime, True),
        ({"block": "hstu", "positions": "timed"}, PositionAndTime, True),
        ({"kernel": "sessions"}, Sessions, True),
        ({"query_time": True}, QueryTime, True),
    ],
)
def test_each_part_is_there_where_it_was_asked_for(
    settings: dict[str, Any], kind: type[nn.Module], timed: bool
) -> None:
    model = built(**settings)
    assert parts(model, kind) == 1
    assert parts(built(), kind) == 0
    assert model.timed is timed


def test_times_are_needed_where_the_model_looks_at_them() -> None:
    timeless = replace(DATA, times=None)
    for settings in ({"positions": "timed"}, {"kernel": "sessions"}, {"query_time": True}):
        with pytest.raises(InputError, match=r"toys: .* need the time of each event and toys.csv has none"):
            built(timeless, **settings)
    assert built(timeless).timed is False


def test_users_are_told_of_where_a_table_of_them_was_read() -> None:
    with pytest.raises(
        InputError, match=r"toys: model.user_features \(all\) .* of its users; known: nothing, name a table"
    ):
        chosen_of("all", DATA.user_features, DATA, "user")
    team = Tags("team", ("blue", "red"), np.array([[0], [1]], np.int32))
    known = replace(DATA, user_features=(team,))
    assert chosen_of("team", known.user_features, known, "user") == (team,)
    model = built(known, user_features="all")
    assert model.beside == ("user",)
    assert model.context["user"].weight.shape == (14, 2)
    assert built(known).beside == ()


def test_types_are_needed_where_the_model_tells_them_apart() -> None:
    with pytest.raises(InputError, match=r"toys: model.event_types .* name the column of toys.csv .* columns.event"):
        built(event_types=True)
    typed = replace(DATA, types=np.ones(ITEMS, np.int16), type_names=("view", "buy"))
    assert built(typed, event_types=True).beside == ("types",)
    assert built(typed).beside == ()
    assert RecsysConfig(targets="buy, cart").target_types == ("buy", "cart")
    assert RecsysConfig().target_types == ()


@pytest.mark.parametrize("settings", [{"kernel": "window"}, {"positions": "rotary"}])
def test_hstu_has_no_kernel_and_turns_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"model.block \(hstu\) has no kernel to choose"):
        SASRecSettings(block="hstu", **settings)


def test_a_session_has_no_place_for_a_bias() -> None:
    with pytest.raises(InputError, match=r"model.kernel \(sessions\) cannot add model.positions \(timed\)"):
        SASRecSettings(kernel="sessions", positions="timed")


def test_the_query_s_time_and_a_memory_exclude_each_other() -> None:
    with pytest.raises(InputError, match=r"export.incremental \(true\): .* set model.query_time to false"):
        RecsysConfig(model=SASRecSettings(query_time=True), export=ExportSettings(incremental=True))


def test_a_stride_lies_within_the_window() -> None:
    with pytest.raises(InputError, match=r"stride \(13\) must be at most model.window \(11\)"):
        RecsysConfig(stride=13, model=SASRecSettings(window=11))


def test_published_recipes_are_as_published() -> None:
    for name in ("sasrec-plus", "gsasrec", "esasrec"):
        config = PRESETS[name]()
        assert (config.optimizer.schedule, config.optimizer.decay, config.fit.average) == ("constant", 0, 0)
        assert not (config.loss.name == "softmax" and config.loss.unseen)
    assert PRESETS["esasrec"]().model == SASRecSettings(heads=1, gated=True, swiglu=True, dropout=0.1)
    assert PRESETS["gsasrec"]().loss == LossSettings(name="gbce", negatives=256, calibration=0.75)


def test_what_was_seen_stays_in_the_loss_where_it_may_come_again() -> None:
    assert RecsysConfig().unseen
    assert not RecsysConfig(repeats=True).unseen
    assert not RecsysConfig(loss=LossSettings(unseen=False)).unseen
    assert not RecsysConfig(loss=LossSettings(name="bce")).unseen

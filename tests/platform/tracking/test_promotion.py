import re

import numpy as np
import pytest

from headwise.errors import InputError, NotFound
from headwise.tracking.connection import connect
from headwise.tracking.evidence import Evidence, evidence_of
from headwise.tracking.promotion import promote, roll_back
from headwise.tracking.registry import register
from headwise.tracking.run import Run

METRIC = "test/ndcg_10"
WEAK = np.zeros(13)
STRONG = np.repeat([1.0, 0.0], [7, 6])  # better on 7 of 13 cases: p = 2 / 2**7
LUCKY = np.repeat([1.0, 0.0], [3, 10])  # on 3: p = 1/4


@pytest.fixture
def put(store, model_folder):
    """Registers the model folder in a new run with what each test case was worth; the version."""

    def put(values=None, *, data="d", test="leave-one-out", mean=None):
        facts = {"example": {"k": np.array(5)}, "requirements": ["onnxruntime>=1.24"], "description": "# Card"}
        with Run("recsys", "toy", store / "run") as run:
            if values is not None:
                Evidence("ndcg_10", test, values).keep(run)
            metrics = {METRIC: values.mean() if mean is None else mean}
            return register(run, model_folder, "recommender", metrics=metrics, data=data * 64, **facts)

    return put


def champion():
    return int(connect().MlflowClient().get_model_version_by_alias("recommender", "champion").version)


def decisions(version):
    tag = connect().MlflowClient().get_model_version("recommender", str(version)).tags["headwise.champion"]
    return [line.split(" ", 1)[1] for line in tag.split("\n")]


def test_what_a_run_kept_comes_back(put):
    put(STRONG)
    run = connect().MlflowClient().get_model_version("recommender", "1").run_id
    kept = evidence_of(run)
    assert (kept.metric, kept.test) == ("ndcg_10", "leave-one-out")
    np.testing.assert_array_equal(kept.values, STRONG)


def test_the_first_is_champion_and_a_better_one_takes_its_place(put):
    put(WEAK)
    put(STRONG)
    first = promote("recommender", 1, metric=METRIC)
    assert (first.promoted, first.reason, first.before, first.after) == (True, "nobody held it", None, 1)
    better = promote("recommender", 2, metric=METRIC)
    assert (better.promoted, better.before, better.after) == (True, 1, 2)
    assert better.reason == (
        "test/ndcg_10 0.538462 is better than 0 of version 1, by a paired test over 13 cases, p = 0.016"
    )
    assert champion() == 2
    assert promote("recommender", 2, metric=METRIC).reason == "it holds it already"


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ({"values": WEAK}, "test/ndcg_10 0 is not better than 0 of version 1"),
        ({"values": LUCKY}, "0.230769 is better than 0 of version 1, but that may be chance: .* 13 cases, p = 0.25"),
        ({"values": STRONG, "data": "e"}, "were measured on different data"),
        ({"values": STRONG, "test": "temporal"}, "13 cases of temporal .* the other on 13 of leave-one-out"),
        ({"values": STRONG[:11]}, "on 11 cases of leave-one-out .* the other on 13 of leave-one-out"),
        ({"mean": 0.5}, "but version 2 kept no figures of single test cases"),
    ],
)
def test_what_is_not_shown_to_be_better_is_refused_and_can_be_forced(put, candidate, reason):
    put(WEAK)
    put(**candidate)
    promote("recommender", 1, metric=METRIC)
    refused = promote("recommender", 2, metric=METRIC)
    assert (refused.promoted, refused.before, refused.after) == (False, 1, 1)
    assert champion() == 1
    forced = promote("recommender", 2, metric=METRIC, force="new catalogue")
    assert (forced.promoted, forced.reason) == (True, "forced: new catalogue")
    assert champion() == 2
    assert decisions(2) == ["promoted: forced: new catalogue", f"refused: {refused.reason}"]
    assert re.search(reason, refused.reason)


def test_lower_is_better_where_errors_are_counted(put):
    put(STRONG)
    put(WEAK)
    promote("recommender", 1, metric=METRIC, mode="min")
    assert promote("recommender", 2, metric=METRIC, mode="min").promoted
    assert not promote("recommender", 1, metric=METRIC, mode="min").promoted


def test_an_objection_is_not_forced(put):
    put(WEAK)
    refused = promote("recommender", 1, metric=METRIC, force="I must", objection="the graph answers otherwise")
    assert (refused.promoted, refused.after) == (False, None)
    assert decisions(1) == ["refused: the graph answers otherwise"]


def test_a_metric_that_was_not_measured_is_named(put):
    put(WEAK)
    put(STRONG)
    promote("recommender", 1, metric=METRIC)
    with pytest.raises(InputError, match=r"recommender/2: has no metric test/wer; it has: test/ndcg_10"):
        promote("recommender", 2, metric="test/wer", mode="min")


def test_the_alias_goes_back_step_by_step(put):
    put(WEAK)
    put(STRONG)
    put(np.ones(13))
    for version in (1, 2, 3):
        assert promote("recommender", version, metric=METRIC).promoted
    back = roll_back("recommender", reason="it recommends rubbish")
    assert (back.before, back.after, champion()) == (3, 2, 2)
    assert decisions(3)[0] == "taken back: it recommends rubbish"
    assert decisions(2)[0] == "promoted: version 3 was taken back: it recommends rubbish"
    assert (roll_back("recommender", reason="worse still").after, champion()) == (1, 1)
    with pytest.raises(InputError, match="version 1 is the first that held it"):
        roll_back("recommender", reason="")
    assert champion() == 1


def test_nothing_is_rolled_back_where_nobody_holds_the_alias(put):
    put(WEAK)
    with pytest.raises(NotFound, match="recommender has versions 1 and aliases none"):
        roll_back("recommender", reason="")

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_pipelines.recsys.losses import chosen
from headwise_pipelines.recsys.presets import ExportSettings, LossSettings, RecsysConfig, SASRecSettings
from headwise_recsys.interactions import Interactions
from headwise_recsys.losses import BinaryCrossEntropy, Mixed, SampledSoftmax, Uniform, exact_softmax

ITEMS = 5


def data() -> Interactions:
    return Interactions(
        items=np.array([1, 2, 2, 3, 4, 2, 5], np.int32),
        times=None,
        offsets=np.array([0, 4, 7]),
        user_ids=[1, 2],
        item_ids=list(range(1, ITEMS + 1)),
        titles=None,
        name="made",
        fingerprint="",
        source="",
    )


STOPS = np.array([3, 6])  # the last event of each user is no target of training


def test_each_name_is_its_loss() -> None:
    assert chosen(LossSettings(), data(), STOPS) is exact_softmax
    gbce = chosen(LossSettings("gbce", negatives=2, calibration=0.5), data(), STOPS)
    assert isinstance(gbce, BinaryCrossEntropy)
    assert gbce.beta == 0.75  # 2 of the 4 others: 1 - 0.5 * (1 - 1/2)
    bce = chosen(LossSettings("bce", negatives=3, shared=False), data(), STOPS)
    assert isinstance(bce, BinaryCrossEntropy)
    assert isinstance(bce.sampler, Uniform)
    assert (bce.beta, bce.sampler.items, bce.sampler.count, bce.sampler.shared) == (1, ITEMS, 3, False)


def test_popularity_is_that_of_the_targets_of_training() -> None:
    sampled = chosen(LossSettings("sampled", negatives=8, in_batch=0.25), data(), STOPS)
    assert isinstance(sampled, SampledSoftmax)
    assert isinstance(sampled.sampler, Mixed)
    assert (sampled.sampler.count, sampled.sampler.from_batch) == (8, 2)
    assert sampled.sampler.share.tolist() == [
        0,
        0,
        1,
        0,
        0,
        0,
    ]  # 2, 2 and 2: first events and those after the stops are none


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossSettings("sampled", shared=False), r"loss.shared \(false\): the negatives of the sampled loss"),
        (lambda: LossSettings(negatives=0), r"loss.negatives \(0\) must be at least 1"),
        (lambda: LossSettings(calibration=1.5), r"loss.calibration \(1.5\) must be at most 1"),
        (lambda: ExportSettings(recall=1.01), r"export.recall \(1.01\) must be at most 1"),
        (
            lambda: ExportSettings(True, incremental=True),
            r"export.incremental \(true\): the graph with a memory is exact",
        ),
        (lambda: RecsysConfig(model=SASRecSettings(sparse=True)), r"model.sparse \(true\): the exact softmax touches"),
        (
            lambda: RecsysConfig(model=SASRecSettings(kernel="linear"), export=ExportSettings(incremental=True)),
            "which linear attention has none of",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(make, message) -> None:
    with pytest.raises(InputError, match=message):
        make()

from collections.abc import Sequence

import numpy as np
import pytest

from headwise_recsys.leaving_out import drops

WORTH = np.array([[0, 0], [2, 1], [3, 5], [7, 0], [11, -2]], np.float32)  # what each item adds to two scores


def total(histories: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([WORTH[list(history)].sum(0) for history in histories])


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_where_scores_are_sums_an_item_did_what_it_is_worth(batch: int) -> None:
    history, asked = [3, 1, 4, 2, 4], []

    def ask(histories: Sequence[Sequence[int]]) -> np.ndarray:
        asked.extend(histories)
        assert len(histories) <= batch
        return total(histories)

    fallen = drops(history, total([history])[0], ask, batch=batch)
    np.testing.assert_allclose(fallen, WORTH[history].T, atol=1e-6)
    assert asked == [[1, 4, 2, 4], [3, 4, 2, 4], [3, 1, 2, 4], [3, 1, 4, 4], [3, 1, 4, 2]]


def test_nothing_can_be_left_out_of_one_item() -> None:
    assert drops([3], total([[3]])[0], total, batch=2).shape == (2, 0)
    assert drops([3, 1], np.zeros(0, np.float32), total, batch=2).shape == (0, 0)

from dataclasses import replace

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_recsys.evaluation.leakage import check_split, leak, seen_again
from headwise_recsys.splits import Queries, leave_one_out, temporal


@pytest.fixture
def data(interactions):
    rows = [[1, 2, 3, 4], [2, 3, 5], [1, 6, 7, 2, 3]]
    return interactions(*rows, items=7, times=[10, 20, 30, 95, 11, 60, 96, 5, 50, 70, 96, 97])


def test_the_splits_of_the_house_do_not_leak(data):
    for split in (leave_one_out(data), temporal(data, 0.6)):
        check_split(data, split)


def test_a_target_that_was_trained_on_is_a_leak(data):
    split = leave_one_out(data)
    leaking = replace(split, train_stops=split.train_stops + np.array([0, 2, 0]))
    with pytest.raises(
        InputError, match="made: the test part of the leave-one-out split leaks: 1 of 3 targets were trained"
    ):
        check_split(data, leaking)


def test_a_target_that_is_trained_on_once_the_recipe_is_chosen_is_a_leak(data):
    split = leave_one_out(data)
    leaking = replace(split, before_test=split.before_test + np.array([0, 0, 1]))
    with pytest.raises(
        InputError, match="the test part of the leave-one-out split leaks: 1 of 3 targets were trained on"
    ):
        check_split(data, leaking)


def test_a_validation_target_that_was_trained_on_is_a_leak(data):
    split = leave_one_out(data)
    leaking = replace(split, train_stops=split.train_stops + np.array([1, 1, 1]))
    with pytest.raises(InputError, match="the validation part of the leave-one-out split leaks: 3 of 3 targets"):
        check_split(data, leaking)


def test_the_future_of_others_is_a_leak_in_time_alone(data):
    split = leave_one_out(data)
    assert leak(data, split.train_stops, split.test, in_time=False) == ""
    late = temporal(data, 0.6)
    # Trained to leave one out, a model knows what others did after the first event that the temporal split asks for.
    others = leak(data, data.offsets[1:] - 1, late.test, in_time=True)
    assert others == "1 of 9 training events are not older than the first event that is asked for"
    assert leak(data, data.offsets[1:] - 1, late.test, in_time=False) == ""


def test_an_event_at_the_very_time_of_the_first_target_is_a_leak(interactions):
    data = interactions([1, 2], [3, 4], items=5, times=[1, 7, 7, 9])
    queries = Queries(np.array([0]), np.array([1]), np.array([1]))
    assert leak(data, np.array([1, 3]), queries, in_time=True).startswith("1 of 2 training events are not older")
    assert leak(data, np.array([1, 2]), queries, in_time=True) == ""


def test_a_first_event_belongs_to_its_own_user(interactions):
    data = interactions([1, 2], [3, 4], items=5)
    nothing_before = Queries(np.array([2]), np.array([2]), np.array([2]))
    assert leak(data, np.array([2, 2]), nothing_before, in_time=False) == ""
    assert leak(data, np.array([2, 3]), nothing_before, in_time=False) == "1 of 1 targets were trained on"


def test_a_history_that_holds_its_target_is_a_leak(data):
    split = leave_one_out(data)
    test = Queries(split.test.starts, split.test.stops + np.array([0, 0, 1]), split.test.targets)
    with pytest.raises(InputError, match="1 of 3 histories hold their target or what came after it; mend the split"):
        check_split(data, replace(split, test=test))


def test_a_history_of_another_user_is_a_leak(data):
    split = leave_one_out(data)
    test = Queries(split.test.starts - np.array([0, 1, 0]), split.test.stops, split.test.targets)
    with pytest.raises(InputError, match="1 of 3 histories begin among another user's events"):
        check_split(data, replace(split, test=test))


def test_choosing_on_the_test_is_a_leak(data):
    split = leave_one_out(data)
    with pytest.raises(InputError, match="3 of 3 validation targets are test targets"):
        check_split(data, replace(split, valid=split.test))


def test_seen_items_in_lists_are_counted(data):
    queries = leave_one_out(data).test
    assert seen_again(np.array([[4, 5], [1, 0], [4, 5]], np.int32), data, queries) == 0
    assert seen_again(np.array([[4, 3], [1, 2], [4, 5]], np.int32), data, queries) == 2

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headwise.attention import Coordinates, RelativeBias, rows
from headwise_recsys.model import PositionAndTime, SASRec, User, sasrec

ITEMS, WINDOW, WIDTH = 29, 13, 22


VARIANTS: dict[str, dict[str, Any]] = {
    "learned positions": {},
    "rotary gated swiglu": {"rotary": True, "gated": True, "swiglu": True},
    "hstu cosine transition": {
        "block": "hstu", "bias": lambda: RelativeBias(1, WINDOW), "cosine": True, "transition": 5
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def model(request: pytest.FixtureRequest) -> SASRec:
    return scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=2, heads=1, hidden=17, **request.param))


def scattered(model: SASRec) -> SASRec:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)  # at the start gates are nearly shut and norms the identity
        model.embedding.weight[0] = 0
    return model.eval().requires_grad_(False)


def histories(*lengths: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    items = torch.randint(1, ITEMS + 1, (len(lengths), max(lengths)), generator=generator)
    return items * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]), torch.tensor(lengths)


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)


def test_scores_are_products_with_the_embeddings_by_hand() -> None:
    model = sasrec(3, window=5, width=2, blocks=1, heads=1)
    with torch.no_grad():
        model.embedding.weight[1:] = torch.tensor([[1.0, 0.0], [2.0, 7.0], [-1.0, 3.0]])
    assert model.scores(torch.tensor([[3.0, 5.0]])).tolist() == [[0, 3, 41, 12]]


def test_packed_histories_say_what_they_say_alone(model: SASRec) -> None:
    items, lengths = histories(3, 5, 2)
    packed = torch.cat([items[row, :length] for row, length in enumerate(lengths.tolist())] + [torch.zeros(1).long()])
    position = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 0]])
    segment = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 0]])
    together = model(packed[None], Coordinates(position, segment, torch.zeros_like(position)))[0]
    for row, (start, length) in enumerate([(0, 3), (3, 5), (8, 2)]):
        alone = model(items[row : row + 1, :length], rows(lengths[row : row + 1], length))
        close(together[start : start + length], alone[0])


def test_the_future_cannot_change_the_past(model: SASRec) -> None:
    items, lengths = histories(11)
    before = model(items, rows(lengths, 11))
    for changed in (3, 7):
        other = items.clone()
        other[0, changed:] = items[0, changed:] % ITEMS + 1
        after = model(other, rows(lengths, 11))
        close(after[:, :changed], before[:, :changed])
        assert ((after - before)[:, changed:].abs().amax(2) > 1e-3).all()


def test_batch_mates_and_padding_change_nothing(model: SASRec) -> None:
    items, lengths = histories(3, 11, 1, 7)
    together = model.expects(nn.functional.pad(items, (0, 2)), lengths)
    for row, length in enumerate(lengths.tolist()):
        close(together[row : row + 1], model.expects(items[row : row + 1, :length], lengths[row : row + 1]))
    torch.testing.assert_close(model.expects(items.flip(0), lengths.flip(0)).flip(0), together)


def test_what_is_expected_is_what_the_last_item_says(model: SASRec) -> None:
    items, lengths = histories(3, 11, 5)
    hidden = model(items, rows(lengths, 11))
    close(model.expects(items, lengths), hidden[torch.arange(3), lengths - 1])


def test_scores_are_products_with_the_items_vectors(model: SASRec) -> None:
    expected = model.expects(*histories(3, 11, 5))
    scores = model.scores(expected)
    assert scores.shape == (3, ITEMS + 1)
    close(expected @ model.vectors().T, scores[:, 1:])
    some = torch.tensor([[2, 29, 3], [7, 2, 11]])
    close(model.vectors(some), model.vectors()[some - 1])


@pytest.mark.parametrize("rotary", [False, True])
def test_order_matters(rotary: bool) -> None:
    # One block: from two on, the causal mask alone would tell the order.
    model = scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=1, heads=1, rotary=rotary))
    swapped, lengths = torch.tensor([[2, 3, 5, 7, 11], [3, 2, 5, 7, 11]]), torch.tensor([5, 5])
    first, second = model.expects(swapped, lengths)
    assert (first - second).abs().max() > 1e-3


def test_an_empty_history_has_an_answer_too(model: SASRec) -> None:
    expected = model.expects(torch.tensor([[0, 0, 0], [2, 3, 5]]), torch.tensor([0, 3]))
    assert expected.isfinite().all()
    close(expected[:1], model.expects(torch.tensor([[0]]), torch.tensor([0])))


def test_attention_weights_are_shares_of_the_past(model: SASRec) -> None:
    items, lengths = histories(3, 11)
    weights = model.attention_weights(items, lengths)
    assert [tuple(block.shape) for block in weights] == [(2, 1, 11, 11)] * 2
    for block in weights:
        close(block[0, 0, :3].sum(1), torch.ones(3))
        assert not block.triu(1).any()
        assert not block[0, :, :, 3:].any()


def timed(blocks: int = 1) -> SASRec:
    bias = lambda: PositionAndTime(1, WINDOW)  # noqa: E731
    return scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=blocks, heads=1, bias=bias, timed=True))


def test_a_timed_model_looks_at_intervals_alone() -> None:
    model, (items, lengths) = timed(), histories(11, 7)
    times = torch.arange(11).square().expand(2, 11) * (items > 0)
    before = model.expects(items, lengths, times)
    close(model.expects(items, lengths, times + 1009), before)
    slower = times.clone()
    slower[:, :3] -= 9_000  # as if the first three had come hours before
    assert ((model.expects(items, lengths, slower) - before).abs().amax(1) > 1e-3).all()


def test_what_a_model_reads_beside_the_history_must_be_given() -> None:
    items, lengths = histories(3, 5)
    for asked in (timed().expects, timed().attention_weights):
        with pytest.raises(ValueError, match="the model reads times beside the history: give that, in this order"):
            asked(items, lengths)
    plain = scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=1, heads=1))
    with pytest.raises(ValueError, match="the model reads nothing beside the history"):
        plain.expects(items, lengths, items * 1009)
    with pytest.raises(ValueError, match="context may hold at, types, user, not weather"):
        SASRec(ITEMS, WIDTH, plain.encoder, window=WINDOW, context={"weather": nn.Identity()})


def knowing_when() -> SASRec:
    return scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=2, heads=1, query_time=True))


def moments(lengths: Tensor) -> Tensor:
    return torch.arange(11).square().expand(len(lengths), 11) * (torch.arange(11) < lengths[:, None])


def test_a_model_that_knows_when_it_is_asked_says_otherwise_later() -> None:
    model, (items, lengths) = knowing_when(), histories(11, 7)
    times = moments(lengths)
    soon, late = (model.expects(items, lengths, times, times.amax(1) + wait) for wait in (5, 90_000))
    assert ((soon - late).abs().amax(1) > 1e-3).all()
    close(model.expects(items, lengths, times + 1009, times.amax(1) + 1014), soon)


def test_each_token_of_training_knows_what_it_would_know_when_asked() -> None:
    model, (items, lengths) = knowing_when(), histories(11)
    times = moments(lengths)
    asked = torch.cat([times[:, 1:], torch.tensor([[177]])], 1)
    together = model(items, rows(lengths, 11)._replace(time=times), {"at": asked})
    for length in range(1, 12):
        alone = model.expects(items[:, :length], torch.tensor([length]), times[:, :length], asked[:, length - 1])
        close(together[:, length - 1], alone)


def test_when_the_next_is_asked_for_cannot_change_the_past() -> None:
    model, (items, lengths) = knowing_when(), histories(11)
    at = rows(lengths, 11)._replace(time=moments(lengths))
    before = model(items, at, {"at": at.time + 5})
    other = model(items, at, {"at": at.time + 5 + 90_000 * (torch.arange(11) >= 7)})
    close(other[:, :7], before[:, :7])
    assert ((other - before)[:, 7:].abs().amax(2) > 1e-3).all()


def test_what_was_done_counts_and_what_is_unknown_does_not() -> None:
    model, (items, lengths) = (
        scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=2, heads=1, types=3)),
        histories(11, 7),
    )
    with torch.no_grad():
        model.context["types"].vectors.weight[0] = 0
    types = (torch.arange(22).view(2, 11) % 3 + 1) * (items > 0)
    before = model.expects(items, lengths, types)
    assert ((model.expects(items, lengths, types % 3 + 1) - before).abs().amax(1) > 1e-3).all()
    plain = scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=2, heads=1))
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "context" not in name})
    close(model.expects(items, lengths, torch.zeros_like(types)), plain.expects(items, lengths))
    together = model(items, rows(lengths, 11), {"types": types})
    other = model(items, rows(lengths, 11), {"types": torch.where(torch.arange(11) >= 5, 3, types)})
    close(other[:, :5], together[:, :5])


def test_who_the_user_is_counts_in_each_history_of_a_row() -> None:
    model = scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=2, heads=1, user=5))
    items, lengths = histories(3, 4)
    users = torch.eye(5)[[1, 3]]
    alone = model.expects(items, lengths, users)
    assert ((model.expects(items, lengths, users.flip(0)) - alone).abs().amax(1) > 1e-3).all()
    packed = torch.cat([items[0, :3], items[1], torch.zeros(2, dtype=torch.long)])[None]
    at = Coordinates(
        torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0, 0]]),
        torch.tensor([[1] * 3 + [2] * 4 + [0] * 2]),
        torch.zeros_like(packed),
    )
    together = model(packed, at, {"user": users[None]})[0]
    close(together[[2, 6]], alone)
    plain = scattered(sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=2, heads=1))
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "context" not in name})
    close(model.expects(items, lengths, torch.zeros(2, 5)), plain.expects(items, lengths))


def test_some_users_are_taken_for_unknown_in_training() -> None:
    torch.manual_seed(3)
    user = User(5, 7, dropout=0.25)
    at = rows(torch.tensor([2]).expand(1009), 2)
    known = torch.ones(1009, 1, 5)
    dropped = (user(known, at) == 0).all(2)
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert 0.2 < dropped.float().mean() < 0.3
    assert not (user.eval()(known, at) == 0).any()


def test_a_history_longer_than_the_window_is_refused(model: SASRec) -> None:
    assert model.expects(*histories(WINDOW)).isfinite().all()
    items, lengths = histories(17)
    for asked in (model.expects, model.attention_weights):
        with pytest.raises(ValueError, match=r"17 items, the model looks at 13 \(its window\): give the last 13"):
            asked(items, lengths)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_padding_is_never_learned(variant: dict[str, Any]) -> None:
    model = sasrec(ITEMS, window=WINDOW, width=WIDTH, blocks=1, heads=1, **variant)
    items, lengths = histories(3, 11)
    expected = model(items, rows(lengths, 11))
    (expected @ model.vectors().T).square().sum().backward()
    assert model.embedding.weight.grad is not None
    assert not model.embedding.weight[0].any()
    assert not model.embedding.weight.grad[0].any()
    assert model.embedding.weight.grad[1:].any(1).all()

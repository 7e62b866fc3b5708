import numpy as np
import pytest
import torch
from torch import nn

from headwise.attention import rows
from headwise_recsys.item_features import Numbers, Tags
from headwise_recsys.model import Content, Items, sasrec

ITEMS, WIDTH = 7, 6
TAGS = Tags(
    "genres", ("a", "b", "c"), np.array([[0, 0], [1, 0], [1, 3], [0, 0], [2, 0], [3, 0], [0, 0], [2, 1]], np.int32)
)
SIZES = Numbers("size", (3.0,), (2.0,), np.array([[0], [1], [-1], [0], [2], [0], [0], [1]], np.float32))
CHOSEN = torch.tensor([False, True, True, True, False, True, True, True])


def content():
    return Content([TAGS, SIZES], WIDTH)


def items(dropout=0.0):
    torch.manual_seed(5)
    return Items(nn.Embedding(ITEMS + 1, WIDTH, padding_idx=0), content(), chosen=CHOSEN, dropout=dropout)


def test_content_by_hand():
    told = content()
    tags, size = told.parts[0].vectors.weight, told.parts[1].weight[:, 0]
    torch.testing.assert_close(told(torch.tensor([2])), ((tags[1] + tags[3]) / 2 - size)[None])
    assert not told(torch.tensor([0, 3, 6])).any()  # nothing is known of them
    assert told.names == ["genres", "size"]


def test_an_item_is_its_own_vector_and_its_content():
    module = items()
    expected = module.own.weight[2] + module.content(torch.tensor(2))
    torch.testing.assert_close(module(torch.tensor([[2]]))[0, 0], expected)
    torch.testing.assert_close(module.weight[2], expected)
    torch.testing.assert_close(module.weight[4], module.content(torch.tensor(4)))  # nobody chose it
    assert not module.weight[0].any()


def test_own_vectors_are_left_out_in_training_alone():
    module = items(dropout=0.5)
    own = torch.ones(1000, dtype=torch.long)
    alone = (module(own) == module.content(own)).all(1)
    assert 400 < alone.sum() < 600
    assert not (module.eval()(own) == module.content(own)).all(1).any()


def test_an_item_that_nobody_chose_is_never_given_a_vector_of_its_own():
    model = sasrec(ITEMS, window=5, width=WIDTH, content=content(), chosen=CHOSEN).eval()  # leaves none out
    at = rows(torch.tensor([3]), 3)
    model.scores(model(torch.tensor([[1, 4, 2]]), at)).logsumexp(-1).sum().backward()
    gradient = model.embedding.own.weight.grad
    assert not gradient[4].any()
    assert gradient[[1, 2, 7]].abs().amax(1).all()


def test_a_model_is_served_with_a_plain_table():
    model = sasrec(ITEMS, window=5, width=WIDTH, content=content(), chosen=CHOSEN, transition=3).eval()
    served, history, lengths = model.folded(), torch.tensor([[1, 4, 2]]), torch.tensor([3])
    assert isinstance(served.embedding, nn.Embedding)
    assert isinstance(model.embedding, Items)
    torch.testing.assert_close(
        served.scores(served.expects(history, lengths)), model.scores(model.expects(history, lengths))
    )
    plain = sasrec(ITEMS, window=5)
    assert plain.folded() is plain


@pytest.mark.parametrize("head", [{}, {"cosine": True}, {"transition": 3}], ids=["dot", "cosine", "transition"])
def test_like_items_score_alike_where_neither_was_chosen(head):
    twins = Tags("genres", ("a", "b"), np.array([[0], [1], [2], [2]], np.int32))
    chosen = torch.tensor([False, True, False, False])
    model = sasrec(3, window=5, width=WIDTH, content=Content([twins], WIDTH), chosen=chosen, **head).eval()
    scores = model.scores(model.expects(torch.tensor([[1, 1]]), torch.tensor([2])))
    torch.testing.assert_close(scores[0, 2], scores[0, 3])

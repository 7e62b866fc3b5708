import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from headwise_recsys.losses import Seen, softmax
from headwise_recsys.losses.softmax import exact_softmax, softmax_cross_entropy

POSITIONS, WIDTH, ITEMS = 23, 5, 11


def drawn(positions: int, width: int, items: int, dtype: torch.dtype, seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = (3 * torch.randn(positions, width, generator=generator)).to(dtype).requires_grad_()
    weight = torch.randn(items, width, generator=generator).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(items, (positions,), generator=generator)


def textbook(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ weight.T, targets)


def value_and_gradients(loss: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    value = loss(hidden, weight, targets)
    return (value, *torch.autograd.grad(7 * value, (hidden, weight)))


class Ops(TorchDispatchMode):
    """Which operators ran, and how many numbers the largest tensor held that any of them took or gave."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.names = 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [value for value in (out, *args, *(kwargs or {}).values()) if isinstance(value, Tensor)]
        self.largest = max(self.largest, *(tensor.numel() for tensor in tensors), 0)
        self.names.add(func.overloadpacket._qualified_op_name)
        return out


def test_by_hand() -> None:
    # Softmax over scores 0 and ln 3 is 1/4 and 3/4.
    hidden, weight = torch.tensor([[1.0], [1.0]], requires_grad=True), torch.tensor([[0.0], [math.log(3)]])
    loss = softmax_cross_entropy(hidden, weight.requires_grad_(), torch.tensor([1, 0]))
    loss.backward()
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert hidden.grad is not None
    assert hidden.grad.flatten().tolist() == pytest.approx([-math.log(3) / 8, 3 * math.log(3) / 8])
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == pytest.approx([-0.25, 0.25])  # (p - 1[target]) h, each half of it


def ragged(positions: int, items: int, seed: int = 5) -> Seen:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(19, (positions,), generator=generator)
    stops = starts + torch.randint(7, (positions,), generator=generator)  # of some positions nothing
    return Seen(torch.randint(items, (29,), generator=generator), starts, stops)


def textbook_without(seen: Seen) -> Any:
    def loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        logits = hidden @ weight.T
        out = torch.zeros_like(logits, dtype=torch.bool)
        for row, (start, stop) in enumerate(zip(seen.starts.tolist(), seen.stops.tolist(), strict=True)):
            out[row, seen.items[start:stop]] = True
        return F.cross_entropy(logits.masked_fill(out.scatter(1, targets[:, None], value=False), -math.inf), targets)

    return loss


@pytest.mark.parametrize("rows", [1, 3, 22, 23, 64])
def test_items_left_out_are_as_if_they_were_not_there_but_for_the_target(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(softmax, "LEAST_ROWS", 1)
    monkeypatch.setattr(softmax, "CACHE", 4 * ITEMS * rows)
    hidden, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float64)
    seen = ragged(POSITIONS, ITEMS)
    one = int((seen.stops > seen.starts).long().argmax())
    targets[one] = seen.items[seen.starts[one]]

    def ours(*given_: Tensor) -> Tensor:
        return softmax_cross_entropy(*given_, left_out=seen)

    expected = value_and_gradients(textbook_without(seen), hidden, weight, targets)
    for got, want in zip(value_and_gradients(ours, hidden, weight, targets), expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)
    assert expected[0] < textbook(hidden, weight, targets)


@pytest.mark.parametrize("rows", [1, 3, 22, 23, 64])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 3e-6)])
def test_equals_the_textbook_form_in_chunks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, rows: int, dtype: torch.dtype, tolerance: float
) -> None:
    monkeypatch.setattr(softmax, "LEAST_ROWS", 1)
    monkeypatch.setattr(softmax, "CACHE", 4 * ITEMS * rows)
    given_ = drawn(POSITIONS, WIDTH, ITEMS, dtype)
    expected = value_and_gradients(textbook, *given_)
    for got, want in zip(value_and_gradients(softmax_cross_entropy, *given_), expected, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


@given(st.integers(1, 150), st.integers(1, 7), st.integers(1, 41), st.integers(0, 997))
def test_equals_the_textbook_form_at_any_size(positions: int, width: int, items: int, seed: int) -> None:
    given_ = drawn(positions, width, items, torch.float64, seed)
    expected = value_and_gradients(textbook, *given_)
    for got, want in zip(value_and_gradients(softmax_cross_entropy, *given_), expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-11, rtol=1e-9)


def test_large_scores_overflow_nothing() -> None:
    hidden, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float64)
    given_ = (hidden.detach() * 1e4).requires_grad_(), weight, targets
    for got, want in zip(
        value_and_gradients(softmax_cross_entropy, *given_), value_and_gradients(textbook, *given_), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_never_holds_positions_by_items() -> None:
    positions, items = 211, 8191  # 64 rows of logits fill the cache
    given_ = drawn(positions, WIDTH, items, torch.float32)
    with Ops() as ours:
        value_and_gradients(softmax_cross_entropy, *given_)
    with Ops() as theirs:
        value_and_gradients(textbook, *given_)
    assert ours.largest == softmax.LEAST_ROWS * items == softmax.CACHE // 4 // items * items
    assert theirs.largest == positions * items


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_does_without_their_work(mode: Any) -> None:
    given_ = drawn(POSITIONS, WIDTH, ITEMS, torch.float64)
    with mode(), Ops() as ops:
        loss = softmax_cross_entropy(*given_)
    assert "aten::mm" in ops.names
    assert not ops.names & {"aten::addmm_", "aten::index_add_"}
    torch.testing.assert_close(loss.clone(), textbook(*given_).detach())


def test_a_frozen_catalogue_still_teaches_the_model() -> None:
    hidden, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float64)
    frozen = weight.detach()
    (got,) = torch.autograd.grad(softmax_cross_entropy(hidden, frozen, targets), hidden)
    (want,) = torch.autograd.grad(textbook(hidden, frozen, targets), hidden)
    torch.testing.assert_close(got, want)


def test_half_precision_is_computed_in_float32() -> None:
    hidden, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float16)
    loss = softmax_cross_entropy(hidden, weight, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, textbook(hidden.float(), weight.float(), targets))
    assert hidden.grad is not None
    assert weight.grad is not None


def test_mixed_bfloat16_differs_by_the_rounding_of_its_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "CACHE", 0)
    monkeypatch.setattr(softmax, "LEAST_ROWS", 7)
    given_ = drawn(997, 13, 101, torch.float32)
    exact = value_and_gradients(textbook, *given_)
    with torch.autocast("cpu", torch.bfloat16), Ops() as ops:
        mixed = value_and_gradients(softmax_cross_entropy, *given_)
    assert (
        "aten::addmm_" not in ops.names
    )  # no sum over chunks is kept in half precision, nor any product made in single
    assert {value.dtype for value in mixed} == {torch.float32}
    for ours, theirs, error in zip(mixed, exact, (1e-3, 1e-2, 1e-2), strict=True):
        assert 1e-7 < ((ours - theirs).norm() / theirs.norm()).item() < error


def test_mixed_precision_reaches_the_layers_beneath() -> None:
    tokens, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float32)
    layer = torch.nn.Linear(WIDTH, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = layer(tokens)
        assert hidden.dtype == torch.bfloat16
        softmax_cross_entropy(hidden, weight, targets).backward()
    assert {p.grad.dtype for p in (tokens, weight, *layer.parameters()) if p.grad is not None} == {torch.float32}
    assert all(p.grad is not None for p in (tokens, weight, *layer.parameters()))


def test_refusals_say_what_was_wrong() -> None:
    hidden, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float32)
    with pytest.raises(ValueError, match="no position has a target"):
        softmax_cross_entropy(hidden[:0], weight, targets[:0])
    for outside in (-1, ITEMS):
        with torch.no_grad(), pytest.raises(IndexError, match="out of range"):
            softmax_cross_entropy(hidden, weight, targets.fill_(outside))


def test_second_derivatives_are_refused_not_left_out() -> None:
    hidden, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float32)
    squared = softmax_cross_entropy(hidden, weight, targets) ** 2
    (slope,) = torch.autograd.grad(squared, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_as_a_loss_it_counts_items_from_one() -> None:
    hidden, weight, targets = drawn(POSITIONS, WIDTH, ITEMS, torch.float64)
    got = exact_softmax(hidden, targets + 1, lambda items=None: weight if items is None else weight[items - 1])
    torch.testing.assert_close(got, softmax_cross_entropy(hidden, weight, targets))
    seen = ragged(POSITIONS, ITEMS)
    counted = seen._replace(items=seen.items + 1)
    got = exact_softmax(hidden, targets + 1, lambda items=None: weight if items is None else weight[items - 1], counted)
    torch.testing.assert_close(got, softmax_cross_entropy(hidden, weight, targets, seen))

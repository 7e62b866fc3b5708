import math
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from headwise.attention import (
    Additive,
    Attention,
    Hierarchical,
    Linear,
    Softmax,
    View,
    Window,
    causal,
    chunk,
    every,
    rows,
    same_segment,
    window,
)

HEAD_WIDTH, VALUE_WIDTH = 5, 7


def tensors(heads, queries, keys=None, batch=3):
    keys = queries if keys is None else keys
    shapes = (heads[0], queries, HEAD_WIDTH), (heads[1], keys, HEAD_WIDTH), (heads[1], keys, VALUE_WIDTH)
    return [torch.randn(batch, *shape, dtype=torch.double, requires_grad=True) for shape in shapes]


def by_formula(case, kernel, query, key, value, visible, at, of):
    shared = query.shape[1] // key.shape[1]
    answer = []
    for b, h, q in torch.cartesian_prod(*(torch.arange(size) for size in query.shape[:3])).tolist():
        seen = visible[b, q].nonzero().squeeze(1)
        keys, values = key[b, h // shared, seen], value[b, h // shared, seen]
        nothing = value.new_zeros(value.shape[-1])
        places = at.position[b, q], of.position[b, seen]
        answer.append(case.formula(kernel, query[b, h, q], keys, values, *places) if len(seen) else nothing)
    return torch.stack(answer).view(*query.shape[:3], value.shape[-1])


def gradients(answer, inputs):
    probe = torch.linspace(-1, 1, answer.numel(), dtype=answer.dtype).view_as(answer)
    return torch.autograd.grad((answer * probe).sum(), inputs)


@pytest.fixture
def check_formula(pairs):
    """Answer and gradients of a case's kernel against its formula, under one mask, tokens at `at` looking at those at `of`."""

    def check(case, inputs, mask, at, of=None):
        of = at if of is None else of
        kernel = case.kernel(HEAD_WIDTH).double()
        answer = kernel(*inputs, View(at, mask, None if of is at else of))
        expected = by_formula(case, kernel, *inputs, pairs(case.rule(mask), at, of), at, of)
        torch.testing.assert_close(answer, expected, rtol=1e-9, atol=1e-9)
        inputs = [*inputs, *kernel.parameters()]
        for got, wanted in zip(gradients(answer, inputs), gradients(expected, inputs), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)

    return check


def test_by_hand():
    key = torch.tensor([[0.0, 9, 9, 9], [1, 9, 9, 9]]).view(1, 1, 2, 4)
    query = torch.tensor([2 * math.log(3), 0, 0, 0]).view(1, 1, 1, 4)  # scores 0 and log 3: weights 1/4 and 3/4
    value = torch.tensor([[1.0], [5.0]]).view(1, 1, 2, 1)
    view = View(rows(torch.tensor([1]), 1), same_segment, rows(torch.tensor([2]), 2))
    torch.testing.assert_close(Softmax()(query, key, value, view), torch.tensor(4.0).view(1, 1, 1, 1))


def test_equals_the_formula_on_padded_rows(case, mask, padded, check_formula):
    check_formula(case, tensors(case.heads[-1], padded.position.shape[1]), mask, padded)


def test_equals_the_formula_on_packed_rows(case, apart, packed, check_formula):
    check_formula(case, tensors(case.heads[-1], packed.position.shape[1]), apart, packed)


def test_equals_the_formula_with_any_number_of_heads(case, heads, padded, check_formula):
    check_formula(case, tensors(heads, padded.position.shape[1]), case.strictest, padded)


def test_equals_the_formula_where_queries_look_elsewhere(case, mask, check_formula):
    at, of = rows(torch.tensor([11, 3, 7]), 11), rows(torch.tensor([2, 13, 5]), 13)
    at = at._replace(position=at.position + 5)  # a query's place among the keys is not its place in the row
    of = of._replace(position=of.position + 1)  # nor does what a cache still holds begin at 0
    check_formula(case, tensors(case.heads[-1], 11, 13), mask, at, of)


def test_grouped_equals_repeated_keys(case, heads, padded):
    query, key, value = tensors(heads, padded.position.shape[1])
    kernel, view, shared = case.kernel(HEAD_WIDTH).double(), View(padded, case.strictest), heads[0] // heads[1]
    repeated = kernel(query, key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1), view)
    torch.testing.assert_close(kernel(query, key, value, view), repeated)


def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(case, heads):
    at = rows(torch.tensor([13, 2, 0]), 13)
    inputs = tensors(heads, 13)
    answer = case.kernel(HEAD_WIDTH).double()(*inputs, View(at, case.strictest))
    assert answer[1, :, 2:].abs().max() == 0
    assert answer[2].abs().max() == 0
    query, key, value = gradients(answer, inputs)
    assert all(gradient.isfinite().all() for gradient in (query, key, value))
    assert all(gradient[2].abs().max() == 0 for gradient in (query, key, value))


def test_weights_are_the_answer_to_the_identity(case, mask, padded, pairs):
    query, key, value = tensors(case.heads[-1], padded.position.shape[1])
    kernel, view = case.kernel(HEAD_WIDTH).double(), View(padded, mask)
    visible = pairs(case.rule(mask), padded, padded)[:, None]
    identity = torch.eye(key.shape[2], dtype=torch.double).expand(*key.shape[:2], -1, -1)
    weights = kernel(query, key, identity, view)
    torch.testing.assert_close(weights.sum(-1), visible.any(-1).double().expand(weights.shape[:3]))
    assert (weights * ~visible).abs().max() == 0
    assert weights.min() >= 0
    shared = query.shape[1] // key.shape[1]
    torch.testing.assert_close(kernel(query, key, value, view), weights @ value.repeat_interleave(shared, 1))


@pytest.mark.parametrize("kernel", [Linear(), Hierarchical(10, 3)], ids=["linear", "hierarchical"])
@pytest.mark.parametrize("mask", [chunk(3, left=5), causal & window(4), causal | same_segment], ids=repr)
def test_a_kernel_that_cannot_follow_a_mask_says_so(kernel, mask):
    with pytest.raises(ValueError, match=f"cannot follow the mask {re.escape(repr(mask))}.*Window and Softmax can"):
        Attention(20, 2, kernel=kernel).check(mask)
    at = rows(torch.tensor([5]), 5)
    with pytest.raises(ValueError, match="cannot follow the mask"):
        kernel(*torch.randn(3, 1, 2, 5, 10), View(at, mask))


@pytest.mark.parametrize("pattern", [causal, same_segment, every(3) & causal, window(3) | causal], ids=repr)
def test_a_window_needs_bounds(pattern):
    with pytest.raises(ValueError, match=r"a window needs bounds, add `& window\(back, ahead\)`"):
        Window(pattern)


def test_sparse_kernels_make_nothing_of_length_by_length(case):
    if case.kernel(1).__class__ in (Softmax, Additive):
        pytest.skip("sees every pair")
    sizes, time = [], 601
    inputs = tensors((2, 1), time, batch=1)

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            answer = function(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in tree_leaves(answer) if isinstance(t, torch.Tensor))
            return answer

    with Sizes():
        case.kernel(HEAD_WIDTH).double()(
            *inputs, View(rows(torch.tensor([time]), time), case.strictest)
        ).sum().backward()
    assert max(sizes) < time * time


def test_huge_values_of_a_packed_neighbour_round_nothing_away(case, apart, packed):
    kernel, view = case.kernel(HEAD_WIDTH), View(packed, apart)
    query, key, value = (heads.detach().float() for heads in tensors(case.heads[-1], packed.position.shape[1]))
    first = (packed.segment == 1)[:, None, :, None]
    answer = kernel(query, key, torch.where(first, 1e9 * value, value), view)
    others = (packed.segment > 1)[:, None, :, None].expand_as(answer)
    torch.testing.assert_close(answer[others], kernel(query, key, value, view)[others])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_forgets_nothing_of_a_long_past(dtype):
    time = 2048
    ones, at = torch.ones(1, 1, time, HEAD_WIDTH, dtype=dtype), rows(torch.tensor([time]), time)
    value = (
        (torch.arange(time) >= time // 2).to(dtype)[:, None].expand_as(ones)
    )  # the later half counts 1: a mean of 1/2
    answer = Linear(chunk=4)(ones, ones, value, View(at, causal))
    assert answer.dtype == dtype
    assert answer[0, 0, -1, 0].item() == pytest.approx(0.5, abs=0.01)
    memory = Linear().empty_memory(1, 1, HEAD_WIDTH, ones)
    for start in range(0, time, 16):
        now = slice(start, start + 16)
        query, values, here = ones[:, :, now], value[:, :, now], at.map(lambda c: c[:, now])  # noqa: B023
        answer, memory = Linear().step(query, query, values, here, causal, memory)
    assert answer[0, 0, -1, 0].item() == pytest.approx(0.5, abs=0.01)


def test_no_rows_give_no_answers(case):
    view = View(rows(torch.zeros(0).long(), 7), case.strictest)
    answer = case.kernel(HEAD_WIDTH).double()(*tensors((2, 2), 7, batch=0), view)
    assert answer.shape == (0, 2, 7, VALUE_WIDTH)


def test_a_window_wider_than_the_row_costs_no_more_than_the_row():
    inputs, at = tensors((1, 1), 5, batch=1), rows(torch.tensor([5]), 5)
    wide = Window(window(10**12))(*inputs, View(at, causal))  # 10^12 keys would not fit a memory
    torch.testing.assert_close(wide, Softmax()(*inputs, View(at, causal)))


def test_learning_in_bfloat16_is_single_precision_rounded(packed):
    exact = [tensor.detach().float().requires_grad_() for tensor in tensors((3, 3), packed.position.shape[1])]
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    view = View(packed, causal & same_segment)
    answer, expected = Softmax()(*rounded, view), Softmax()(*exact, view)
    assert not answer.transpose(1, 2)[packed.segment == 0].any()
    seeds = torch.randn_like(expected)
    pairs = [(answer, expected)]
    pairs += zip(
        torch.autograd.grad(answer, rounded, seeds.bfloat16()), torch.autograd.grad(expected, exact, seeds), strict=True
    )
    for got, wanted in pairs:
        assert got.dtype == torch.bfloat16
        assert (got.float() - wanted).norm() < 0.02 * wanted.norm()

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from abaw.fusion import SafeCrossAttention

DIM = 8
LENGTHS = [(5, 7), (7, 5), (6, 6), (1, 1), (1, 4), (4, 1)]


def masks(length: int, seed: int) -> Tensor:
    """Six samples: three drawn at random, one full, two empty."""
    mask = torch.rand(6, length, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[3], mask[4:] = True, False
    return mask


def inputs(tq: int, tk: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """36 samples: every kind of query mask with every kind of context mask."""
    generator = torch.Generator().manual_seed(tq * 100 + tk)
    return {
        "query": torch.randn(36, tq, DIM, generator=generator).to(dtype),
        "context": torch.randn(36, tk, DIM, generator=generator).to(dtype),
        "query_mask": masks(tq, 1).repeat_interleave(6, dim=0),
        "context_mask": masks(tk, 2).repeat(6, 1),
    }


def attention(num_heads: int = 2, **kwargs: Any) -> SafeCrossAttention:
    torch.manual_seed(0)
    return SafeCrossAttention(DIM, num_heads, **kwargs)


def reference(
    module: SafeCrossAttention, query: Tensor, context: Tensor, query_mask: Tensor, context_mask: Tensor
) -> tuple[np.ndarray, list[dict[tuple[int, int, int], float]]]:
    """Result (B, Tq, D) and the weights by (head, query, key), by loops over single numbers in float64."""
    params = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    w_q, b_q = params["query_proj.weight"], params["query_proj.bias"]
    w_kv, b_kv = params["key_value_proj.weight"], params["key_value_proj.bias"]
    dim, size = module.dim, module.dim // module.num_heads
    result, maps = np.zeros(query.shape), []
    for b in range(len(query)):
        queries = {i: query[b, i].double().numpy() for i in range(query.shape[1]) if query_mask[b, i]}
        keys = {j: context[b, j].double().numpy() for j in range(context.shape[1]) if context_mask[b, j]}
        keys = keys or queries
        maps.append({})
        for i, token in queries.items():
            q = w_q @ token + b_q
            heads = []
            for h in range(module.num_heads):
                rows = slice(h * size, (h + 1) * size)
                scores, values = {}, {}
                for j, other in keys.items():
                    key = w_kv[:dim] @ other + b_kv[:dim]
                    values[j] = (w_kv[dim:] @ other + b_kv[dim:])[rows]
                    scores[j] = math.exp(sum(q[rows] * key[rows]) / math.sqrt(size))
                total = sum(scores.values())
                heads.append(sum(scores[j] / total * values[j] for j in keys))
                maps[b].update({(h, i, j): scores[j] / total for j in keys})
            result[b, i] = params["out_proj.weight"] @ np.concatenate(heads) + params["out_proj.bias"]
    return result, maps


@pytest.mark.parametrize("num_heads", [1, 4])
@pytest.mark.parametrize(("tq", "tk"), LENGTHS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
def test_equals_a_loop(num_heads: int, tq: int, tk: int, dtype: torch.dtype, tolerance: float) -> None:
    module, given = attention(num_heads).to(dtype), inputs(tq, tk, dtype)
    expected, maps = reference(module, **given)
    result, weights = module(**given, need_weights=True)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.detach().double().numpy(), expected, atol=tolerance, rtol=0)

    expected_weights = np.zeros((36, num_heads, tq, max(tq, tk)))
    for b, of_sample in enumerate(maps):
        for place, weight in of_sample.items():
            expected_weights[(b, *place)] = weight
    np.testing.assert_allclose(weights.detach().double().numpy(), expected_weights, atol=tolerance, rtol=0)
    assert torch.equal(module(**given), result)


def mask_of(length: int) -> st.SearchStrategy[list[bool]]:
    return st.one_of(
        st.lists(st.booleans(), min_size=length, max_size=length),
        st.sampled_from([[True] * length, [False] * length]),
    )


@st.composite
def any_sizes_and_masks(draw: st.DrawFn) -> tuple[SafeCrossAttention, dict[str, Tensor]]:
    num_heads, size = draw(st.sampled_from([1, 2, 3, 8])), draw(st.integers(1, 5))
    batch, tq, tk = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    torch.manual_seed(draw(st.integers(0, 1000)))
    return SafeCrossAttention(num_heads * size, num_heads), {
        "query": torch.randn(batch, tq, num_heads * size),
        "context": torch.randn(batch, tk, num_heads * size),
        "query_mask": torch.tensor([draw(mask_of(tq)) for _ in range(batch)]),
        "context_mask": torch.tensor([draw(mask_of(tk)) for _ in range(batch)]),
    }


@settings(max_examples=60, deadline=None)
@drawn(any_sizes_and_masks())
def test_equals_a_loop_for_any_sizes_and_masks(case: tuple[SafeCrossAttention, dict[str, Tensor]]) -> None:
    module, given = case
    result = module(**given).detach().double().numpy()
    np.testing.assert_allclose(result, reference(module, **given)[0], atol=1e-6, rtol=0)


def test_equals_torchs_attention_where_nothing_is_missing() -> None:
    module, given = attention(num_heads=2), inputs(5, 7)
    query, context = given["query"], given["context"]
    peer = nn.MultiheadAttention(DIM, 2, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([module.query_proj.weight, module.key_value_proj.weight]))
        peer.in_proj_bias.copy_(torch.cat([module.query_proj.bias, module.key_value_proj.bias]))
        peer.out_proj.load_state_dict(module.out_proj.state_dict())
    torch.testing.assert_close(module(query, context), peer(query, context, context)[0], atol=1e-6, rtol=0)


def test_falls_back_to_the_query_sample_by_sample() -> None:
    module, given = attention(), inputs(5, 7)
    empty = ~given["context_mask"].any(dim=1)
    alone = module(given["query"], given["query"], given["query_mask"], given["query_mask"])
    result = module(**given)
    torch.testing.assert_close(result[empty], alone[empty])
    some = ~empty & given["query_mask"].any(dim=1)
    assert (result[some] - alone[some]).abs().amax(dim=(1, 2)).min() > 1e-3


def test_context_without_any_frame_is_an_empty_context() -> None:
    module, query = attention(), inputs(5, 7)["query"]
    torch.testing.assert_close(module(query, query[:, :0]), module(query, query))


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize(("tq", "tk"), [(2, 3), (3, 2), (1, 1)])
def test_gradcheck(num_heads: int, tq: int, tk: int) -> None:
    module, given = attention(num_heads).double(), inputs(tq, tk, torch.float64)
    # A random query with a random and an empty context, an empty one with a full and an empty context.
    chosen = [0, 4, 27, 28]
    query, context, query_mask, context_mask = (given[name][chosen] for name in given)

    def forward(query: Tensor, context: Tensor, *_: Tensor) -> Tensor:
        return module(query, context, query_mask, context_mask)

    differentiable = [query.requires_grad_(), context.requires_grad_(), *module.parameters()]
    assert torch.autograd.gradcheck(forward, differentiable)


def gradients(module: nn.Module, given: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Result, and the gradients of a sum with distinct weights, by name."""
    given = given | {name: given[name].clone().requires_grad_() for name in ("query", "context")}
    module.zero_grad()
    result = module(**given)
    (result * torch.linspace(-1, 1, result.numel()).view_as(result).to(result.dtype)).sum().backward()
    grads = {name: given[name].grad for name in ("query", "context")}
    return result.detach(), grads | {name: p.grad.clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("tq", "tk"), LENGTHS)
def test_absent_places_change_nothing(garbage: float, tq: int, tk: int) -> None:
    module, given = attention(), inputs(tq, tk)
    absent = {name: ~given[f"{name}_mask"][..., None] for name in ("query", "context")}
    clean, clean_grads = gradients(module, given)
    filled = given | {name: given[name].masked_fill(where, garbage) for name, where in absent.items()}
    dirty, dirty_grads = gradients(module, filled)
    assert torch.equal(clean, dirty)
    assert not clean[absent["query"][..., 0]].any()
    for name, grad in clean_grads.items():
        assert torch.equal(grad, dirty_grads[name]), name
    for name, where in absent.items():
        assert not dirty_grads[name].masked_select(where).any()


def test_what_a_loss_says_about_absent_places_is_not_heard() -> None:
    module, given = attention(), inputs(5, 7)
    given["query"].requires_grad_()
    upstream = torch.ones(36, 5, DIM).masked_fill(~given["query_mask"][..., None], math.nan)
    wanted = [given["query"], *module.parameters()]
    expected = torch.autograd.grad(module(**given), wanted, torch.ones_like(upstream))
    for grad, other in zip(torch.autograd.grad(module(**given), wanted, upstream), expected, strict=True):
        assert torch.equal(grad, other)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_everything_missing_is_zero_with_finite_gradients(dtype: torch.dtype, train: bool) -> None:
    module = attention(dropout=0.5).to(dtype).train(train)
    given = inputs(5, 7, dtype)
    for name in ("query", "context"):
        given[name] = torch.full_like(given[name], math.nan)
        given[f"{name}_mask"] = torch.zeros_like(given[f"{name}_mask"])
    result, grads = gradients(module, given)
    assert torch.equal(result, torch.zeros_like(result))
    for name, grad in grads.items():
        assert torch.equal(grad, torch.zeros_like(grad)), name
    assert not module(**given, need_weights=True)[1].any()


def test_the_softmax_never_meets_an_empty_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # This build of PyTorch forgives such rows; others return NaN.
    seen, original = [], torch.nn.functional.scaled_dot_product_attention

    def recording(*args: Tensor, attn_mask: Tensor, **kwargs: Any) -> Tensor:
        seen.append(attn_mask)
        return original(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recording)
    attention()(**inputs(5, 7))
    assert seen[0].any(dim=-1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_large_numbers_stay_finite(dtype: torch.dtype) -> None:
    given = inputs(5, 7, dtype)
    for name in ("query", "context"):
        given[name] = (100 * given[name]).masked_fill(~given[f"{name}_mask"][..., None], math.inf)
    result, grads = gradients(attention().to(dtype), given)
    assert result.isfinite().all()
    assert all(grad.isfinite().all() for grad in grads.values())


def test_batch_mates_change_nothing() -> None:
    module, given = attention(), inputs(5, 7)
    together = module(**given)
    for b in range(len(together)):
        alone = module(**{name: value[b : b + 1] for name, value in given.items()})
        torch.testing.assert_close(alone[0], together[b], atol=1e-6, rtol=0)


def test_broken_batch_mates_change_nothing() -> None:
    module, given = attention(), inputs(5, 7)
    expected = module(**given)
    broken = given | {name: given[name].clone() for name in ("query", "context")}
    broken["query"][::2], broken["context"][::2] = math.nan, math.inf
    whole = broken["query"].requires_grad_(), broken["context"].requires_grad_()
    result = module(**broken)[1::2]
    torch.testing.assert_close(result, expected[1::2], atol=1e-6, rtol=0)
    for grad in torch.autograd.grad(result.sum(), whole):
        assert grad[1::2].isfinite().all()


def test_no_mask_means_everything_is_there() -> None:
    module, given = attention(), inputs(5, 7)
    query, context = given["query"], given["context"]
    full = torch.ones(36, 5, dtype=torch.bool), torch.ones(36, 7, dtype=torch.bool)
    assert torch.equal(module(query, context), module(query, context, *full))


def test_drops_weights_in_training_alone() -> None:
    module, given = attention(dropout=0.5), inputs(5, 7)
    assert not torch.equal(module(**given), module(**given))
    assert torch.equal(module.eval()(**given), module(**given))


def test_the_source_is_chosen_before_it_is_projected() -> None:
    module, seen = attention(), []
    module.key_value_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    given = inputs(5, 7)
    module(**given)
    (source,) = seen
    assert source.shape == (36, 7, DIM)
    for b in range(36):
        mask = given["context_mask"][b]
        expected = given["context"][b] if mask.any() else given["query"][b]
        mask = mask if mask.any() else given["query_mask"][b]
        assert torch.equal(source[b, : len(mask)][mask], expected[mask])


@pytest.mark.parametrize(
    ("backend", "dropout"),
    [(SDPBackend.FLASH_ATTENTION, 0.0), (SDPBackend.MATH, 0.0), (SDPBackend.MATH, 0.5)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_backends_of_the_cpu_serve_the_mask(backend: SDPBackend, dropout: float, dtype: torch.dtype) -> None:
    module, given = attention(dropout=dropout).to(dtype), inputs(5, 7, dtype)
    with sdpa_kernel(backend):
        result, grads = gradients(module, given)
        assert all(grad.isfinite().all() for grad in grads.values())
        if not dropout:
            expected = reference(module, **given)[0]
            np.testing.assert_allclose(result.double().numpy(), expected, atol=2e-2, rtol=0)


def test_mixed_precision() -> None:
    module, given = attention(), inputs(5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        result = module(**given)
    assert result.dtype == torch.bfloat16
    expected = reference(module, **given)[0]
    np.testing.assert_allclose(result.detach().double().numpy(), expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 3), "num_heads must divide dim"),
        ((8, 0), "num_heads must be at least 1"),
        ((8, 2, 1.0), "dropout must be below 1"),
        ((8, 2, -0.1), "dropout must be at least 0"),
    ],
)
def test_refuses_wrong_sizes(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SafeCrossAttention(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": torch.zeros(36, 5, 9)}, r"query must be \(batch, time, 8\)"),
        ({"context": torch.zeros(36, DIM)}, r"context must be \(batch, time, 8\)"),
        ({"context": torch.zeros(1, 7, DIM), "context_mask": None}, "query has 36 samples, context 1"),
        ({"context_mask": torch.ones(36, 7)}, "context_mask must be bool"),
        ({"query_mask": torch.ones(36, 7, dtype=torch.bool)}, "query_mask must be bool"),
    ],
)
def test_refuses_what_does_not_fit(changes: dict[str, Tensor | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention()(**inputs(5, 7) | changes)

"""Safe cross-attention is one static graph: no branch on data, no wait for the device."""

from collections.abc import Iterator

import pytest
import torch
from onnx_runtime import in_onnx_runtime
from torch import Tensor
from torch._dynamo.utils import counters
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from abaw.fusion import SafeCrossAttention

DIM = 8
NAMES = ("query", "context", "query_mask", "context_mask")


def inputs(tq: int, tk: int, batch: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Tokens and random masks; the first sample's context is empty, the last has nothing at all."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [torch.randn(batch, length, DIM, generator=generator) for length in (tq, tk)]
    masks = [torch.rand(batch, length, generator=generator) < 0.5 for length in (tq, tk)]
    masks[1][0], masks[0][-1], masks[1][-1] = False, False, False
    return dict(zip(NAMES, tokens + masks, strict=True))


@pytest.fixture
def module() -> SafeCrossAttention:
    torch.manual_seed(0)
    return SafeCrossAttention(DIM, num_heads=2)


@pytest.fixture
def dynamo() -> Iterator[None]:
    """A compiler without a past, which takes a second compilation for an error."""
    torch.compiler.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch.compiler.reset()


def gradients(module: torch.nn.Module, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
    tokens = {name: given[name].clone().requires_grad_() for name in ("query", "context")}
    result = module(**given | tokens).square().sum()
    return torch.autograd.grad(result, [*tokens.values(), *module.parameters()])


@pytest.mark.usefixtures("dynamo")
def test_one_graph_for_every_mask(module: SafeCrossAttention) -> None:
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=False)
    given = inputs(5, 7)
    drawn = [inputs(5, 7, seed=seed) for seed in (1, 2)]
    uniform = [{name: torch.full_like(given[name], value) for name in NAMES} for value in (0, 1)]
    for masks in [given, *drawn, *uniform]:
        given |= {name: masks[name] for name in ("query_mask", "context_mask")}
        torch.testing.assert_close(gradients(compiled, given), gradients(module, given))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.usefixtures("dynamo")
def test_one_graph_for_every_length(module: SafeCrossAttention) -> None:
    compiled = torch.compile(module, fullgraph=True, backend="eager", dynamic=True)
    for tq, tk in [(5, 7), (7, 5), (6, 6), (4, 9)]:
        torch.testing.assert_close(compiled(**inputs(tq, tk)), module(**inputs(tq, tk)))
    assert counters["stats"]["unique_graphs"] == 1


def test_exports_with_dynamic_batch_and_lengths(module: SafeCrossAttention) -> None:
    module.eval()
    batch, tq, tk = (torch.export.Dim(name, min=1, max=4096) for name in ("batch", "tq", "tk"))
    shapes = [{0: batch, 1: tq}, {0: batch, 1: tk}] * 2
    dynamic = dict(zip(NAMES, shapes, strict=True))
    exported = torch.export.export(module, (), inputs(5, 7), dynamic_shapes=dynamic).module()
    for lengths in [(5, 7), (7, 5), (6, 6), (1, 1), (1, 4), (4, 1), (2, 9)]:
        for count in (1, 3, 36):
            given = inputs(*lengths, batch=count, seed=count)
            torch.testing.assert_close(exported(**given), module(**given))


@pytest.mark.slow
def test_says_the_same_in_onnx_runtime(module: SafeCrossAttention) -> None:
    module.eval()
    batch, tq, tk = (torch.export.Dim(name) for name in ("batch", "tq", "tk"))
    dynamic = dict(zip(NAMES, [{0: batch, 1: tq}, {0: batch, 1: tk}] * 2, strict=True))
    run = in_onnx_runtime(module, inputs(5, 7), dynamic)
    for lengths in [(5, 7), (7, 5), (6, 6), (1, 1), (1, 4), (4, 1)]:
        for count in (1, 36):
            given = inputs(*lengths, batch=count, seed=count)
            with torch.no_grad():
                torch.testing.assert_close(run(**given), module(**given), atol=1e-4, rtol=0)


@pytest.mark.parametrize("need_weights", [False, True])
def test_asks_no_tensor_for_its_value(need_weights: bool) -> None:
    # A fake tensor has none: asking for it raises.
    with FakeTensorMode() as mode:
        module = SafeCrossAttention(DIM, 2, dropout=0.1)
        given = {name: mode.from_tensor(value) for name, value in inputs(5, 7).items()}
        result = module(**given, need_weights=need_weights)
        result = result[0] if need_weights else result
        assert result.shape == (4, 5, DIM)
        result.sum().backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
def test_never_waits_for_the_gpu(backend: SDPBackend, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = SafeCrossAttention(64, num_heads=2).to(dtype)
    given = inputs(5, 7)
    given |= {name: torch.randn(4, given[name].shape[1], 64).to(dtype) for name in NAMES[:2]}
    expected = module.double()(**given | {name: given[name].double() for name in NAMES[:2]})
    module = module.to("cuda", dtype)
    on_gpu = {name: value.cuda() for name, value in given.items()}
    with sdpa_kernel(backend):
        module(**on_gpu).sum().backward()  # the libraries' first call may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            result = module(**on_gpu)
            result.sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    tolerance = 1e-3 if dtype == torch.float32 else 3e-2  # TF32 may be allowed
    torch.testing.assert_close(result.double().cpu(), expected, atol=tolerance, rtol=0)
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())

"""What ``torch.onnx.export`` makes of a module, as ONNX Runtime runs it."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def in_onnx_runtime(
    module: nn.Module, given: dict[str, Tensor], sizes: dict[str, Any]
) -> Callable[..., Tensor]:
    """A function of the same arguments, of any batch and length; the test is skipped without the extra."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*The axis name")  # two inputs that share one
        program = torch.onnx.export(
            module, (), kwargs=given, dynamo=True, dynamic_shapes=sizes, verbose=False
        )
    assert program is not None
    model = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(**tensors: Tensor) -> Tensor:
        (result,) = session.run(None, {name: tensor.numpy() for name, tensor in tensors.items()})
        return torch.from_numpy(result)

    return run

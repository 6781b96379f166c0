"""What a GPU would make the host wait for, on a machine without one."""

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class NothingFromTheHost(TorchDispatchMode):
    """On the meta device, as on a GPU, operators may be given indices on the host: they wait for them."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim]
        assert {tensor.device.type for tensor in tensors} <= {"meta"}, function
        return function(*args, **(kwargs or {}))

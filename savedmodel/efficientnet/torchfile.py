"""Reads the weights that torch.save wrote before PyTorch 1.6, without PyTorch, for convert.py."""

import collections
import dataclasses
import io
import math
import pickle

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_ELEMENTS = 64 << 20  # of one storage; the weights of EfficientNet-lite0 have 4.7 million in all


class TorchFileError(Exception):
    """The file cannot be read; shown without a traceback."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """The memory of one or more tensors. Its values follow all pickles in the file."""

    key: str
    dtype: np.dtype
    elements: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage, often a transposed one. Offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple

    def of(self, values):
        """Returns the tensor's elements as an array."""
        if len(self.shape) != len(self.strides) or min((self.offset, *self.shape, *self.strides)) < 0:
            raise TorchFileError(f"a tensor of shape {self.shape} with strides {self.strides} cannot be read")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if math.prod(self.shape) > len(values) or 0 not in self.shape and last >= len(values):
            raise TorchFileError(f"a tensor of shape {self.shape} exceeds its storage of {len(values)} elements")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


def rebuild_tensor(storage, offset, shape, strides, requires_grad, hooks):
    """Takes the arguments of torch._utils._rebuild_tensor_v2."""
    return Tensor(storage, offset, shape, strides)


class Unpickler(pickle.Unpickler):
    """An unpickler that makes nothing but dictionaries, storages and tensors."""

    ALLOWED = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise TorchFileError(f"the file wants {module}.{name}, which no file of weights needs")
        return self.ALLOWED[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _, elements, view = pid
        if kind != "storage" or view is not None or not 0 <= elements <= MAX_ELEMENTS:
            raise TorchFileError(f"storage {key!r} cannot be read")
        return self.storages.setdefault(key, Storage(key, dtype, elements))


def read(data):
    """Returns the tensors of a file by name, as arrays, in the file's order."""
    file = io.BytesIO(data)
    try:
        if Unpickler(file).load() != MAGIC or Unpickler(file).load() != PROTOCOL:
            raise TorchFileError("not a file of torch.save before PyTorch 1.6")
        Unpickler(file).load()  # the writer's byte order and sizes of integers, which readers ignore
        contents = Unpickler(file)
        tensors = contents.load()
        keys = Unpickler(file).load()
        if sorted(keys) != sorted(contents.storages):
            raise TorchFileError("the file's list of storages does not fit its tensors")
        values = {key: read_storage(file, contents.storages[key]) for key in keys}
        if file.read(1):
            raise TorchFileError("something follows the last storage")
        return {name: tensor.of(values[tensor.storage.key]) for name, tensor in tensors.items()}
    except TorchFileError:
        raise
    except Exception as e:  # pickle raises almost anything for a damaged file
        raise TorchFileError(f"damaged: {type(e).__name__}: {e}") from e


def read_storage(file, storage):
    """Reads a storage: its number of elements, then its values."""
    elements = int.from_bytes(file.read(8), "little")
    data = file.read(elements * storage.dtype.itemsize) if elements == storage.elements else b""
    if len(data) != storage.elements * storage.dtype.itemsize:
        raise TorchFileError(f"storage {storage.key!r} ends early")
    return np.frombuffer(data, storage.dtype)

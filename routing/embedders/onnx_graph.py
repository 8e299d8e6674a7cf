"""The network of all-MiniLM-L6-v2 as an ONNX graph: made from the names of its weights, which it does not contain.

The graph has 17 KB, is made in 3 ms and is the same each time. ONNX Runtime is given the weights from memory, where
their digest was checked. So there is no exported file to store, to carry in a version, to check or to repair, and a
consumer needs neither torch nor the package `onnx` (17 MB), which would only write the few messages below.

Source of the numbers of fields: ``onnx.proto`` of the ONNX specification.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

INPUTS = ("ids", "lengths", "present")
"""Token ids ``(n, t)`` int32, zero after the end of a text; tokens of each text ``(n,)`` int32; ``(n, 1, t)`` float32,
1 for a token and 0 after the end."""

_POSITIONS = "typed positions"
_MICROSOFT = "com.microsoft"
_IR_VERSION, _OPERATORS, _MICROSOFT_OPERATORS = 8, 17, 1
_FLOAT, _INT32 = 1, 6
_HEADS, _EPSILON = 12, 1e-12


def read_weights(safetensors: bytes) -> dict[str, F32]:
    """Return the float32 tensors of a BERT's safetensors file by name, as views of its bytes.

    All tokens are of the first of BERT's two types: `_POSITIONS` are its positions with that type added.

    Parameters
    ----------
    safetensors
        Content of the file, of a digest that is known: its header is believed.
    """
    (size,) = struct.unpack_from("<Q", safetensors)
    header = json.loads(safetensors[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            flat = np.frombuffer(safetensors, dtype="<f4", count=(end - start) // 4, offset=8 + size + start)
            tensors[name] = flat.reshape(entry["shape"])
    positions, types = (tensors[f"embeddings.{name}_embeddings.weight"] for name in ("position", "token_type"))
    return tensors | {_POSITIONS: positions + types[0]}


def graph_of(weights: Mapping[str, F32]) -> tuple[bytes, tuple[str, ...]]:
    """Return the graph, and the names of the weights that it wants; see `INPUTS` for what it reads.

    It returns "rows", ``(n, 1, dim)`` float32: the mean over the tokens of each text, scaled to unit length.

    Parameters
    ----------
    weights
        As `read_weights` returns them.
    """
    network = _Network(weights)
    hidden = network.embed()
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        hidden = network.layer(f"encoder.layer.{layer}", hidden)
        layer += 1
    network.pool(hidden)
    return network.encoded(), tuple(network.used)


class _Network:
    """Collect the nodes of a graph; every method returns the name of its result."""

    def __init__(self, weights: Mapping[str, F32]) -> None:
        self._weights = weights
        self._nodes: list[bytes] = []
        self.used: dict[str, None] = {}

    def embed(self) -> str:
        inputs = [
            "ids",
            "",
            self._weight("embeddings.word_embeddings.weight"),
            self._weight(_POSITIONS),
            "",
            self._weight("embeddings.LayerNorm.weight"),
            self._weight("embeddings.LayerNorm.bias"),
        ]
        embedded = self._node("EmbedLayerNormalization", inputs, _MICROSOFT, unused="mask index", epsilon=_EPSILON)
        self._shape = self._node("Shape", [embedded])
        return self._flat(embedded)

    def layer(self, name: str, hidden: str) -> str:
        parts = (self._linear(f"{name}.attention.self.{part}", hidden) for part in ("query", "key", "value"))
        attended = self._node(
            "MultiHeadAttention",
            [*(self._node("Reshape", [part, self._shape]) for part in parts), "", "lengths"],
            _MICROSOFT,
            num_heads=_HEADS,
        )
        projected = self._linear(f"{name}.attention.output.dense", self._flat(attended))
        hidden = self._normed(f"{name}.attention.output", projected, hidden)
        wide = self._node("Gelu", [self._linear(f"{name}.intermediate.dense", hidden)], _MICROSOFT)
        return self._normed(f"{name}.output", self._linear(f"{name}.output.dense", wide), hidden)

    def pool(self, hidden: str) -> None:
        # A sum is a mean of another length, and the length goes away.
        total = self._node("MatMul", ["present", self._node("Reshape", [hidden, self._shape])])
        self._node("LpNormalization", [total], axis=-1, p=2, output="rows")

    def encoded(self) -> bytes:
        """Write the graph as a ModelProto."""
        dim = self._weights["embeddings.LayerNorm.weight"].shape[0]
        kinds = (_INT32, _INT32, _FLOAT)
        shapes = (("n", "t"), ("n",), ("n", 1, "t"))
        graph = b"".join(_field(1, node) for node in self._nodes) + _field(2, "all-MiniLM-L6-v2")
        graph += b"".join(_field(5, _placeholder(name, self._weights[name].shape)) for name in self.used)
        for name, kind, shape in zip(INPUTS, kinds, shapes, strict=True):
            graph += _field(11, _described(name, kind, shape))
        graph += _field(12, _described("rows", _FLOAT, ("n", 1, dim)))
        versions = (("", _OPERATORS), (_MICROSOFT, _MICROSOFT_OPERATORS))
        imports = b"".join(_field(8, _field(1, domain) + _field(2, version)) for domain, version in versions)
        return _field(1, _IR_VERSION) + _field(7, graph) + imports

    def _weight(self, name: str) -> str:
        self.used[name] = None
        return name

    def _linear(self, name: str, hidden: str) -> str:
        return self._node("Gemm", [hidden, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")], transB=1)

    def _normed(self, name: str, hidden: str, residual: str) -> str:
        scale = [self._weight(f"{name}.LayerNorm.weight"), self._weight(f"{name}.LayerNorm.bias")]
        return self._node("SkipLayerNormalization", [hidden, residual, *scale], _MICROSOFT, epsilon=_EPSILON)

    def _flat(self, hidden: str) -> str:
        """Lay the tokens of all texts one below the other: ``(n * t, dim)``."""
        return self._node("Flatten", [hidden], axis=2)

    def _node(
        self,
        kind: str,
        inputs: list[str],
        domain: str = "",
        *,
        output: str = "",
        unused: str = "",
        **attributes: int | float,
    ) -> str:
        output = output or f"{kind} {len(self._nodes)}"
        node = b"".join(_field(1, name) for name in inputs)
        node += b"".join(_field(2, name) for name in (output, unused) if name) + _field(4, kind)
        node += b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())
        self._nodes.append(node + _field(7, domain))
        return output


def _placeholder(name: str, shape: tuple[int, ...]) -> bytes:
    """Write a TensorProto whose content is elsewhere: ONNX Runtime is given it by name."""
    location = _field(13, _field(1, "location") + _field(2, "memory"))
    return b"".join(_field(1, size) for size in shape) + _field(2, _FLOAT) + _field(8, name) + location + _field(14, 1)


def _described(name: str, kind: int, shape: tuple[int | str, ...]) -> bytes:
    """Write a ValueInfoProto."""
    sizes = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))


def _attribute(name: str, value: int | float) -> bytes:
    """Write an AttributeProto."""
    if isinstance(value, float):
        return _field(1, name) + _field(2, value) + _field(20, 1)
    return _field(1, name) + _field(3, value) + _field(20, 2)


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """Write one field of a message: a varint, a float32, or something with a length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value & (1 << 64) - 1)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])

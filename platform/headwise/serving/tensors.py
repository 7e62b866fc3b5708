"""Tensors on the wire, as the Open Inference Protocol (version 2) and its binary extension have them.

A message is a JSON object. A tensor's numbers stand in it as a list, flat or nested in row-major order, or follow it as
little-endian bytes; then a header says how long the object is. https://github.com/kserve/open-inference-protocol
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError

HEADER = "Inference-Header-Content-Length"
DATATYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in (
        ("BOOL", "?"),
        *(("INT8", "<i1"), ("INT16", "<i2"), ("INT32", "<i4"), ("INT64", "<i8")),
        *(("UINT8", "<u1"), ("UINT16", "<u2"), ("UINT32", "<u4"), ("UINT64", "<u8")),
        *(("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8")),
    )
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}

Array = NDArray[np.generic]


class Tensor(msgspec.Struct, frozen=True):
    """One input, as it is asked."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class Output(msgspec.Struct, frozen=True):
    """One output that is wanted."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(msgspec.Struct, frozen=True):
    """What `POST /v2/models/NAME/infer` is sent."""

    inputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[Output] | None = None


_decoder = msgspec.json.Decoder(InferenceRequest)


@dataclass(frozen=True, eq=False)
class Asked:
    """A request, read.

    Attributes:
        id: the client's own, to be given back.
        inputs: by name.
        outputs: the names wanted; None for all.
        binary: of those that are wanted as bytes; None if all are.
    """

    id: str
    inputs: Mapping[str, Array]
    outputs: Sequence[str] | None
    binary: frozenset[str] | None


def read(body: bytes, header: str | None) -> Asked:
    """A request's tensors.

    Args:
        body: of the request.
        header: `Inference-Header-Content-Length`, None where it was not sent and all of the body is JSON.

    Raises:
        InputError: it does not fit the protocol, names no numbers, or other numbers than its shapes say.
    """
    length = len(body) if header is None else _length(header, len(body))
    try:
        message = _decoder.decode(body[:length])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is no inference request: {error}") from error
    rest, inputs = memoryview(body)[length:], dict[str, Array]()
    for tensor in message.inputs:
        if tensor.name in inputs:
            raise InputError(f"inputs: {tensor.name!r} stands there twice")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            inputs[tensor.name] = _listed(tensor)
            continue
        inputs[tensor.name] = _packed(tensor, size, rest)
        rest = rest[size:]
    if len(rest):
        raise InputError(f"{len(rest)} bytes follow the last tensor; binary_data_size and {HEADER} must cover the body")
    wanted = message.outputs
    by_default = message.parameters.get("binary_data_output") is True
    if wanted is None:
        return Asked(message.id, inputs, None, None if by_default else frozenset())
    binary = frozenset(each.name for each in wanted if each.parameters.get("binary_data", by_default) is True)
    return Asked(message.id, inputs, [each.name for each in wanted], binary)


def write(
    asked: Asked, answered: Mapping[str, Array], *, model: str, version: str | None
) -> tuple[bytes, dict[str, str]]:
    """The answer's body and headers; numbers that are not finite become null in JSON, so ask for bytes where they may be."""
    described, packed = [], []
    for name, value in answered.items():
        facts: dict[str, Any] = {"name": name, "shape": list(value.shape), "datatype": name_of(value.dtype)}
        if asked.binary is None or name in asked.binary:
            packed.append(np.ascontiguousarray(value).tobytes())
            facts["parameters"] = {"binary_data_size": len(packed[-1])}
        else:
            facts["data"] = value.ravel().tolist()
        described.append(facts)
    known = {"id": asked.id} if asked.id else {}
    versioned = {"model_version": version} if version else {}
    body = msgspec.json.encode({"model_name": model, **versioned, **known, "outputs": described})
    if not packed:
        return body, {"content-type": "application/json"}
    return b"".join([body, *packed]), {"content-type": "application/octet-stream", HEADER: str(len(body))}


def name_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a type of numbers."""
    return NAMES[dtype.newbyteorder("<")]


def _length(header: str, most: int) -> int:
    if not (header.isascii() and header.isdigit()) or int(header) > most:
        raise InputError(f"{HEADER} is {header[:32]!r}; the length of the JSON object is needed, {most} bytes at most")
    return int(header)


def _dtype(tensor: Tensor) -> np.dtype[Any]:
    if tensor.datatype not in DATATYPES:
        raise InputError(f"{tensor.name}: datatype {tensor.datatype[:32]!r} is none of {', '.join(DATATYPES)}")
    if any(size < 0 for size in tensor.shape):
        raise InputError(f"{tensor.name}: shape {tensor.shape} has a negative size")
    return DATATYPES[tensor.datatype]


def _packed(tensor: Tensor, size: object, rest: memoryview) -> Array:
    dtype = _dtype(tensor)
    needed = prod(tensor.shape) * dtype.itemsize
    if not isinstance(size, int) or isinstance(size, bool) or size != needed or size > len(rest):
        raise InputError(
            f"{tensor.name}: binary_data_size is {size!r}; shape {tensor.shape} of {tensor.datatype} takes {needed} bytes, "
            f"and {len(rest)} follow"
        )
    return np.frombuffer(rest[:size], dtype).reshape(tensor.shape)


def _listed(tensor: Tensor) -> Array:
    dtype = _dtype(tensor)
    if not isinstance(tensor.data, list):
        raise InputError(f"{tensor.name}: it has neither a list in `data` nor a binary_data_size")
    flat = list(_flat(tensor.data))
    kind = bool if dtype.kind == "b" else (int, float) if dtype.kind == "f" else int
    strange = next(
        (value for value in flat if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)), None
    )
    if strange is not None or None in flat:
        raise InputError(f"{tensor.name}: {strange!r} is no {tensor.datatype}"[:200])
    if len(flat) != prod(tensor.shape):
        raise InputError(f"{tensor.name}: holds {len(flat)} numbers, shape {tensor.shape} needs {prod(tensor.shape)}")
    try:
        return np.array(flat, dtype).reshape(tensor.shape)
    except OverflowError as error:
        raise InputError(f"{tensor.name}: a number is out of the range of {tensor.datatype}") from error


def _flat(data: Iterable[Any]) -> Iterable[Any]:
    for value in data:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value

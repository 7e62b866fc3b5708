"""A model's graph itself, for clients of KServe and Triton: the Open Inference Protocol, version 2.

GET  /v2/models/NAME          names, types and shapes of inputs and outputs
POST /v2/models/NAME/infer    tensors in, tensors out; also /v2/models/NAME/versions/VERSION/...
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from headwise.errors import InputError
from headwise.serving.batching import Batcher
from headwise.serving.problems import Refusal
from headwise.serving.service import Endpoint
from headwise.serving.session import Session
from headwise.serving.tensors import HEADER, Array, name_of, read, write

MAX_BYTES = 16 << 20  # of a request
MAX_REQUESTS = 64
MAX_QUEUE = 64
ANY = 4096  # of a dimension that nothing is said of
SCHEMA = {
    "InferenceRequest": {
        "title": "InferenceRequest",
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "shape", "datatype"],
                    "properties": {
                        "name": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                        "datatype": {"type": "string"},
                        "data": {"type": "array", "items": {}},
                    },
                },
            },
            "outputs": {
                "type": "array",
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            },
        },
    }
}


class Inference:
    """The raw graph of one model behind a queue of its own.

    Args:
        session: the graph.
        model: what clients call it.
        version: its version in the registry.
        most: by the name of an input, how large each of its dimensions may be; what a request costs grows with them.
    """

    def __init__(self, session: Session, *, model: str, version: str | None, most: Mapping[str, Sequence[int]]) -> None:
        self._session, self._model, self._version, self._most = session, model, version, dict(most)
        self._batcher: Batcher[Mapping[str, Array], Sequence[Array]] = Batcher(
            lambda asked: [self._run(each) for each in asked], max_batch=1, max_queue=MAX_QUEUE
        )

    @property
    def path(self) -> str:
        """The route that answers."""
        return f"/v2/models/{self._model}/infer"

    @property
    def metadata(self) -> dict[str, Any]:
        """What `GET /v2/models/NAME` answers."""
        return {
            "name": self._model,
            "versions": [self._version] if self._version else [],
            "platform": "onnxruntime_onnx",
            "inputs": [_described(*each) for each in self._session.takes],
            "outputs": [_described(*each) for each in self._session.gives],
        }

    @property
    def endpoint(self) -> Endpoint:
        """`POST /v2/models/NAME/infer`."""
        operation = {
            "summary": f"The graph of {self._model}, tensors in and out (Open Inference Protocol)",
            "tags": ["tensors"],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}}},
            },
            "responses": {"200": {"description": "The outputs.", "content": {"application/json": {"schema": {}}}}},
        }
        return Endpoint(self.path, self._answer, operation, SCHEMA, MAX_BYTES, MAX_REQUESTS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answers requests inside the block."""
        async with self._batcher.running():
            yield

    async def _answer(self, request: Request) -> Response:
        if encoding := request.headers.get("content-encoding"):
            raise Refusal(415, f"the body is encoded as {encoding[:32]!r}; send it as it is")
        asked = read(await request.body(), request.headers.get(HEADER))
        self._check(asked.inputs)
        outputs = asked.outputs if asked.outputs is not None else self._session.outputs
        if unknown := [name for name in outputs if name not in self._session.outputs]:
            raise InputError(f"outputs: there is no {unknown[0][:64]!r}; there are {', '.join(self._session.outputs)}")
        answered = dict(zip(self._session.outputs, await self._batcher.submit(asked.inputs), strict=True))
        chosen = {name: answered[name] for name in outputs}
        body, headers = write(asked, chosen, model=self._model, version=self._version)
        return Response(body, headers=headers)

    def _check(self, inputs: Mapping[str, Array]) -> None:
        names = [name for name, _, _ in self._session.takes]
        if set(inputs) != set(names):
            raise InputError(f"inputs are {', '.join(inputs)[:200] or 'none'}; {', '.join(names)} are needed")
        sizes = {str(size): size for _, _, shape in self._session.takes for size in shape if isinstance(size, int)}
        for name, dtype, shape in self._session.takes:
            value = inputs[name]
            if value.dtype != dtype or value.ndim != len(shape):
                raise InputError(
                    f"{name}: {name_of(value.dtype)} of {value.ndim} dimensions, {name_of(dtype)} of {len(shape)} is needed"
                )
            most = self._most.get(name, [ANY] * len(shape))
            for size, dimension, limit in zip(value.shape, shape, most, strict=True):
                if not 1 <= size <= limit or size != sizes.setdefault(str(dimension), size):
                    raise InputError(
                        f"{name}: shape is {list(value.shape)}; [{', '.join(map(str, shape))}] is needed, sizes from 1 to "
                        f"{list(most)}, and the same by one name in all inputs"
                    )

    def _run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        try:
            return self._session.run(**inputs)
        except Exception as error:  # ONNX Runtime's own classes share no other base
            # The graph refuses what lies outside of its tables, such as an item beyond the catalogue.
            raise InputError(f"the graph refuses these inputs: {str(error)[:300]}") from error


def _described(name: str, dtype: np.dtype[Any], shape: Sequence[int | str]) -> dict[str, Any]:
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return {"name": name, "datatype": name_of(dtype), "shape": sizes}

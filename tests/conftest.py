"""What all rooms share: checked shapes, a way through ONNX, model folders computed by hand, a client without a socket.

The hook that checks shapes must stand here: it has to be in place before any test file imports attention or transformer,
by itself or through a product.
"""

import asyncio
import inspect
import json
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import numpy as np
import onnx
import pytest
from jaxtyping import install_import_hook
from onnx import TensorProto, helper, numpy_helper

from headwise.model_folder import ModelCard, writing

ONNX = {
    "opset": 23,  # the first with the Attention operator
    "known warnings": "torchvision is not installed|LeafSpec|isinstance.treespec|dynamic_axes|# The axis name",
}

# As for mypy, an int will do where a float is asked for; while torch.export traces, a size is a SymInt.
CHECKER = """beartype.beartype(conf=beartype.BeartypeConf(
    is_pep484_tower=True,
    hint_overrides=beartype.FrozenDict({int: int | __import__("torch").SymInt}),
))"""

install_import_hook(("headwise.attention", "headwise.transformer"), CHECKER)

# The same examples everywhere, and no clock: a busy machine is not a failure.
hypothesis.settings.register_profile(
    "headwise", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("headwise")

WINDOW, MAX_K = 5, 7
ITEMS = [101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151]  # own ids of items 1..11
BLOCK = 1600  # samples, 0.1 s: one frame of the recogniser
LEVELS = {"<blank>": 0.0, " ": 0.2, "A": 0.4, "B": 0.6, "C": 0.8}  # the amplitude that is heard as each token


class Client:
    """A running application; every call is one request."""

    def __init__(self, runner: asyncio.Runner, http: httpx.AsyncClient) -> None:
        self._runner = runner
        self._http = http

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._http.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._http.post(path, **options))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._http.request(method, path, **options))

    def together(self, path: str, bodies: list[Any]) -> list[httpx.Response]:
        async def all_at_once() -> list[httpx.Response]:
            return await asyncio.gather(*(self._http.post(path, json=body) for body in bodies))

        return self._runner.run(all_at_once())


@contextmanager
def talking_to(app: Any) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://headwise")
        try:
            yield Client(runner, http)
        finally:
            runner.run(http.aclose())
            runner.run(lifespan.__aexit__(None, None, None))


@pytest.fixture(scope="session", name="talking_to")
def talking_to_fixture() -> Any:
    return talking_to


@pytest.fixture(scope="session")
def recommender_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After item n the next ones follow in the order of the catalogue: n+1 scores 1, n+2 scores 1/2, n+3 scores 1/3 ..."""
    folder = tmp_path_factory.mktemp("models") / "recommender"
    settings = {"window": WINDOW, "max_k": MAX_K}
    card = ModelCard("recommender", "circle", settings, {"run": "r1"}, {"ndcg@10": 0.5}, {"scores": 0.0})
    with writing(folder, card) as draft:
        onnx.save(recommender_graph(), draft / "recommender.onnx")
        onnx.save(looking_back_graph(), draft / "explanation.onnx")
        (draft / "items.json").write_text(json.dumps(ITEMS))
        (draft / "titles.json").write_text(json.dumps(["One", None, *(f"Title {own}" for own in ITEMS[2:])]))
    return folder


@pytest.fixture(scope="session")
def recogniser_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hears one token in every tenth of a second, by its loudness (see LEVELS)."""
    folder = tmp_path_factory.mktemp("models") / "recogniser"
    settings = {"sample_rate": 16000, "decoder": "greedy", "hop": BLOCK}
    card = ModelCard("recogniser", "loudness", settings, {"run": "r2"}, {"wer": 0.25}, {"log_probs": 0.0})
    with writing(folder, card) as draft:
        onnx.save(recogniser_graph(), draft / "recogniser.onnx")
        onnx.save(looking_at_itself_graph(), draft / "explanation.onnx")
        (draft / "vocabulary.json").write_text(json.dumps({"tokens": list(LEVELS)}))
    return folder


def recommender_graph() -> onnx.ModelProto:
    width = len(ITEMS) + 1
    distance = (np.arange(width)[None] - np.arange(width)[:, None] - 1) % len(ITEMS)
    table = (1 / (1 + distance)).astype(np.float32)
    table[:, 0] = -np.inf
    minus_infinity = helper.make_tensor("m", TensorProto.FLOAT, [1], [-np.inf])
    one = helper.make_tensor("o", TensorProto.FLOAT, [1], [1.0])
    node = helper.make_node
    nodes = [
        node("Sub", ["lengths", "one"], ["last"]),
        node("Unsqueeze", ["last", "axis"], ["last_column"]),
        node("GatherElements", ["history", "last_column"], ["last_item"], axis=1),
        node("Squeeze", ["last_item", "axis"], ["item"]),
        node("Gather", ["table", "item"], ["all"]),
        node("Shape", ["all"], ["all_shape"]),
        node("Shape", ["allow"], ["allow_shape"]),
        node("Shape", ["history"], ["history_shape"]),
        node("Shape", ["exclude"], ["exclude_shape"]),
        node("ConstantOfShape", ["all_shape"], ["none"]),
        node("ConstantOfShape", ["allow_shape"], ["allow_ones"], value=one),
        node("ConstantOfShape", ["history_shape"], ["history_minus"], value=minus_infinity),
        node("ConstantOfShape", ["exclude_shape"], ["exclude_minus"], value=minus_infinity),
        node("ScatterElements", ["none", "allow", "allow_ones"], ["allowed_number"], axis=1),
        node("Greater", ["allowed_number", "zero"], ["allowed"]),
        node("ReduceMax", ["allow", "axis"], ["highest"], keepdims=1),
        node("Equal", ["highest", "zero_item"], ["unrestricted"]),
        node("Or", ["allowed", "unrestricted"], ["eligible"]),
        node("Where", ["eligible", "all", "minus"], ["s1"]),
        node("ScatterElements", ["s1", "history", "history_minus"], ["s2"], axis=1),
        node("ScatterElements", ["s2", "exclude", "exclude_minus"], ["s3"], axis=1),
        node("Reshape", ["k", "axis"], ["count"]),
        node("TopK", ["s3", "count"], ["scores", "items"], axis=1),
    ]
    constants = {
        "table": table,
        "one": np.array([1], np.int64),
        "axis": np.array([1], np.int64),
        "zero": np.array([0], np.float32),
        "zero_item": np.array([0], np.int64),
        "minus": np.array([-np.inf], np.float32),
    }
    integers = {"history": ["b", "t"], "lengths": ["b"], "k": [], "exclude": ["b", "e"], "allow": ["b", "a"]}
    return _model(nodes, constants, integers, {}, {"items": (TensorProto.INT64, ["b", "n"])}, "scores", ["b", "n"])


def recogniser_graph() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Abs", ["waveform"], ["loud"]),
        node("Unsqueeze", ["loud", "axis"], ["channel"]),
        node("AveragePool", ["channel"], ["pooled"], kernel_shape=[BLOCK], strides=[BLOCK]),
        node("Transpose", ["pooled"], ["level"], perm=[0, 2, 1]),
        node("Sub", ["level", "levels"], ["difference"]),
        node("Abs", ["difference"], ["distance"]),
        node("Mul", ["distance", "sharpness"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=2),
        node("Div", ["lengths", "block"], ["frames"]),
    ]
    constants = {
        "axis": np.array([1], np.int64),
        "levels": np.array(list(LEVELS.values()), np.float32),
        "sharpness": np.array([-97.0], np.float32),
        "block": np.array([BLOCK], np.int64),
    }
    outputs = {"frames": (TensorProto.INT64, ["b"])}
    floats = {"waveform": ["b", "s"]}
    return _model(nodes, constants, {"lengths": ["b"]}, floats, outputs, "log_probs", ["b", "f", len(LEVELS)])


def looking_back_graph() -> onnx.ModelProto:
    """Of n items the last gets n shares, the one before it n-1, the first 1."""
    node = helper.make_node
    nodes = [
        node("Cast", ["history"], ["numbers"], to=TensorProto.FLOAT),
        node("Sign", ["numbers"], ["real"]),
        node("CumSum", ["real", "axis"], ["count"]),
        node("Mul", ["count", "real"], ["shares"]),
        node("Cast", ["lengths"], ["n"], to=TensorProto.FLOAT),
        node("Mul", ["n", "n"], ["square"]),
        node("Add", ["square", "n"], ["twice"]),
        node("Div", ["twice", "two"], ["total"]),
        node("Unsqueeze", ["total", "axis"], ["total_column"]),
        node("Div", ["shares", "total_column"], ["attention"]),
    ]
    constants = {"axis": np.array(1, np.int64), "two": np.array([2], np.float32)}
    return _model(nodes, constants, {"history": ["b", "t"], "lengths": ["b"]}, {}, {}, "attention", ["b", "t"])


def looking_at_itself_graph() -> onnx.ModelProto:
    """Every frame looks at itself alone, but for the frames of a row that `lengths` leaves out."""
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["waveform", "axis"], ["channel"]),
        node("AveragePool", ["channel"], ["pooled"], kernel_shape=[BLOCK], strides=[BLOCK]),
        node("Transpose", ["pooled"], ["column"], perm=[0, 2, 1]),
        node("MatMul", ["column", "pooled"], ["grid"]),
        node("Shape", ["grid"], ["shape"]),
        node("Shape", ["grid"], ["square"], start=1),
        node("ConstantOfShape", ["square"], ["zeros"]),
        node("EyeLike", ["zeros"], ["one"]),
        node("Expand", ["one", "shape"], ["all"]),
        node("Div", ["lengths", "block"], ["frames"]),
        node("Unsqueeze", ["frames", "axis"], ["frames_column"]),
        node("Gather", ["square", "first"], ["time"]),
        node("Range", ["first", "time", "step"], ["places"]),
        node("Less", ["places", "frames_column"], ["real"]),
        node("Unsqueeze", ["real", "axis"], ["real_row"]),
        node("Where", ["real_row", "all", "nothing"], ["attention"]),
    ]
    constants = {
        "axis": np.array([1], np.int64),
        "block": np.array([BLOCK], np.int64),
        "first": np.array(0, np.int64),
        "step": np.array(1, np.int64),
        "nothing": np.array(0, np.float32),
    }
    return _model(nodes, constants, {"lengths": ["b"]}, {"waveform": ["b", "s"]}, {}, "attention", ["b", "f", "f"])


def _model(
    nodes: list[Any],
    constants: dict[str, np.ndarray],
    integers: dict[str, list[Any]],
    floats: dict[str, list[Any]],
    outputs: dict[str, Any],
    main: str,
    shape: list[Any],
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "by_hand",
        [value(name, TensorProto.FLOAT, dims) for name, dims in floats.items()]
        + [value(name, TensorProto.INT64, dims) for name, dims in integers.items()],
        [value(main, TensorProto.FLOAT, shape)] + [value(name, *rest) for name, rest in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def through_onnx() -> Iterator[Callable]:
    """Exports a module as headwise does: torch.export with named dimensions first, so that no shape is baked in.

    Takes the module, an example of each input by name, and for each the names of its leading dimensions (None: fixed);
    gives a function from the same inputs to the list of outputs, computed by ONNX Runtime.
    """
    import onnxruntime
    import torch

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)

    def export(
        module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], dynamic: Mapping[str, Sequence[str | None]]
    ) -> Callable:
        dims = {name: torch.export.Dim(name) for name in {n for axes in dynamic.values() for n in axes if n}}
        free = [{axis: dims[n] for axis, n in enumerate(dynamic[name]) if n} for name in inputs]
        shapes = dict(inspect.signature(module.forward).bind(*free).arguments)  # by argument, also where one is *many
        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", message=f".*({ONNX['known warnings']})")
            program = torch.export.export(module.eval(), tuple(inputs.values()), dynamic_shapes=shapes)
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=ONNX["opset"], input_names=list(inputs), verbose=False
            )
        model = exported.model_proto
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == ONNX["opset"]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert {value.name for value in session.get_inputs()} == set(inputs)
        return lambda *arrays: [
            torch.from_numpy(array)
            for array in session.run(None, {n: a.numpy() for n, a in zip(inputs, arrays, strict=True)})
        ]

    yield export
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def pytest_configure() -> None:
    """A shell starts background commands deaf to Ctrl-C, which the tests of stopping would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

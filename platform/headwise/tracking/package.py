"""A headwise model folder as an MLflow model: the same files, unchanged, and beside them what MLflow reads.

    MLmodel  requirements.txt  conda.yaml  python_env.yaml  input_example.json     for MLflow
    model.json  *.onnx  items.json ...                                             the folder, byte for byte

Both `mlflow.onnx` and `mlflow.pyfunc` look for MLmodel beside the graph, so the folder lies at the top and nothing is
stored twice. `mlflow.onnx.save_model` would write the graph anew: other bytes than the card vouches for.
"""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headwise.errors import InputError
from headwise.model_folder import CARD, read_card

PROVIDERS = ["CPUExecutionProvider"]  # one that is always there: MLflow warns about each that is not


def save_model(
    path: str,
    mlflow_model: Any,
    *,
    folder: Path,
    example: Mapping[str, np.ndarray],
    requirements: Sequence[str],
    **_: Any,
) -> None:
    """Lay out an MLflow model; MLflow calls this while it logs one.

    Args:
        path: the folder to make.
        mlflow_model: MLflow's description, completed here.
        folder: a headwise model folder.
        example: one input of the graph, by name.
        requirements: lines of requirements.txt, what it takes to run the graph.
    """
    from mlflow import pyfunc
    from mlflow.models.utils import _save_example

    card, target = read_card(folder), Path(path)
    target.mkdir(parents=True)
    for name in (CARD, *card.files):
        shutil.copyfile(folder / name, target / name)
    graph = _graph(card.kind, card.files, folder)
    mlflow_model.signature = _signature(folder / graph)
    _save_example(mlflow_model, dict(example), path)
    pyfunc.add_to_model(
        mlflow_model, loader_module="mlflow.onnx", data=graph, conda_env="conda.yaml", python_env="python_env.yaml"
    )
    mlflow_model.add_flavor("onnx", onnx_version=_onnx_version(), data=graph, providers=PROVIDERS, code=None)
    mlflow_model.model_size_bytes = sum(file.stat().st_size for file in target.iterdir())
    mlflow_model.save(str(target / "MLmodel"))
    _write_environment(target, requirements)


def _graph(kind: str, files: Mapping[str, Any], folder: Path) -> str:
    graphs = [name for name in files if name.endswith(".onnx")]
    main = f"{kind}.onnx"
    if main not in graphs:
        raise InputError(f"{folder}: a {kind} needs {main}; its graphs are: {', '.join(graphs) or 'none'}")
    return main


def _signature(graph: Path) -> Any:
    # Read off the graph: a signature inferred from an example would pin the sizes that happened to be in it.
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(value: Any) -> Any:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
        return TensorSpec(np.dtype(kind), tuple(sizes), value.name)

    body = onnx.load(str(graph), load_external_data=False).graph
    stored = {weight.name for weight in body.initializer}
    inputs = [spec(value) for value in body.input if value.name not in stored]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema([spec(value) for value in body.output]))


def _write_environment(target: Path, requirements: Sequence[str]) -> None:
    # JSON is YAML, and these two need nothing more.
    python = platform.python_version()
    (target / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (target / "python_env.yaml").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
    packages = [f"python={python}", "pip", {"pip": list(requirements)}]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": packages}
    (target / "conda.yaml").write_text(json.dumps(conda, indent=2) + "\n", encoding="utf-8")


def _onnx_version() -> str:
    import onnx

    return str(onnx.__version__)

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from headwise.model_folder import ModelCard, writing
from headwise.tracking.connection import answered, connect

ITEMS = 7


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An MLflow database with its tables made, which takes seconds once."""
    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        mlflow = connect()
        with answered():
            mlflow.MlflowClient().search_experiments()
    return path


@pytest.fixture
def store(migrated, tmp_path, monkeypatch) -> Path:
    """A working directory with its own empty MLflow store."""
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def build_folder(target: Path, scale: float = 2.0, kind: str = "recommender") -> Path:
    """A model folder whose graph multiplies, with its weights in a file of their own."""
    history = helper.make_tensor_value_info("history", TensorProto.FLOAT, ["batch", "time"])
    k = helper.make_tensor_value_info("k", TensorProto.INT64, [])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", "time"])
    weight = onnx.numpy_helper.from_array(np.array([scale], np.float32), "scale")
    nodes = [helper.make_node("Mul", ["history", "scale"], ["scores"])]
    graph = helper.make_graph(nodes, "g", [history, k], [scores], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    card = ModelCard(kind, "toy", {"window": 5}, {"run": "r"}, {"test/ndcg@10": 0.2}, {})
    with writing(target, card) as draft:
        onnx.save_model(
            model, draft / f"{kind}.onnx", save_as_external_data=True, location=f"{kind}.onnx.data", size_threshold=0
        )
        (draft / "items.json").write_text(str(list(range(ITEMS))))
    return target


@pytest.fixture
def model_folder(tmp_path) -> Path:
    return build_folder(tmp_path / "export")

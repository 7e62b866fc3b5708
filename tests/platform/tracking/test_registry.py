import shutil

import numpy as np
import pytest

from headwise.errors import InputError, NotFound
from headwise.model_folder import read_card
from headwise.tracking.connection import connect
from headwise.tracking.local import LocalRun
from headwise.tracking.registry import fetch, register
from headwise.tracking.run import Run

EXAMPLE = {"history": np.ones((2, 3), np.float32), "k": np.array(5)}


@pytest.fixture
def put(store, model_folder):
    """Registers the model folder in a new run, with a test metric."""

    def put(ndcg: float = 0.2, data: str = "d" * 64, name: str = "recommender", run: Run | None = None) -> int:
        facts = {"example": EXAMPLE, "requirements": ["onnxruntime>=1.24"], "description": "# Card", "data": data}
        if run:
            return register(run, model_folder, name, metrics={"test/ndcg@10": ndcg}, **facts)
        with Run("recsys", "toy", store / "run") as run:
            return register(run, model_folder, name, metrics={"test/ndcg@10": ndcg}, **facts)

    return put


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_comes_out_is_what_went_in(put, store, model_folder):
    with Run("recsys", "toy", store / "run") as run:
        assert put(run=run) == 1
        assert put(run=run) == 1  # a continued run does not register twice
    for uri in ("models:/recommender/1", f"runs:/{run.id}", str(model_folder)):
        folder = fetch(uri, store / "cache")
        assert bytes_of(folder) == bytes_of(model_folder)
        assert read_card(folder).kind == "recommender"
    version = connect().MlflowClient().get_model_version("recommender", "1")
    assert (version.description, version.run_id) == ("# Card", run.id)
    assert version.tags["metric.test/ndcg_at_10"] == "0.2"


def test_mlflow_itself_can_load_and_run_it(put):
    put()
    model = connect().pyfunc.load_model("models:/recommender/1")
    assert "['history': Tensor('float32', (-1, -1)), 'k': Tensor('int64', ())]" in str(model.metadata.signature)
    answer = model.predict({"history": np.full((3, 5), 1.5, np.float32), "k": np.array(7)})
    np.testing.assert_array_equal(answer["scores"], np.full((3, 5), 3.0, np.float32))
    example = connect().models.Model.load("models:/recommender/1").load_input_example()
    assert example["history"].shape == (2, 3)


def test_a_fetched_model_is_not_fetched_again_and_a_changed_one_is_noticed(put, store, monkeypatch):
    put()
    folder = fetch("models:/recommender/1", store / "cache")
    monkeypatch.setattr(connect().artifacts, "download_artifacts", None)
    assert fetch("models:/recommender/1", store / "cache") == folder
    (folder / "items.json").write_text("[0, 1, 2, 3, 4, 5, 7]")
    with pytest.raises(InputError, match=r"items.json: its bytes are not those that model.json vouches for"):
        fetch("models:/recommender/1", store / "cache")


def test_a_store_that_lost_a_byte_gives_nothing(put, store):
    put()
    [stored] = (store / "mlruns").rglob("items.json")
    stored.write_text("[]")
    with pytest.raises(InputError, match=r"items.json: 2 bytes, model.json says"):
        fetch("models:/recommender/1", store / "cache")
    assert not list((store / "cache").glob("*"))


def test_a_name_that_is_not_there_is_answered_with_those_that_are(put, store):
    put()
    connect().MlflowClient().set_registered_model_alias("recommender", "champion", "1")
    for uri, message in {
        "models:/recogniser@champion": "no model is registered as recogniser; there are: recommender",
        "models:/recommender/7": "recommender has versions 1 and aliases @champion = 1",
        "models:/recommender@next": "recommender has versions 1 and aliases @champion = 1",
        "runs:/" + "a" * 32: "Run with id=a+ not found",
        "folder": "not a model folder",
    }.items():
        with pytest.raises(NotFound, match=message):
            fetch(uri, store / "cache")
    with pytest.raises(InputError, match=r"a model is models:/name/version, models:/name@alias"):
        fetch("models:/recommender", store / "cache")


def test_a_run_without_a_model_says_so(store):
    with Run("recsys", "toy", store / "run") as run:
        pass
    with pytest.raises(NotFound, match="this run has no model"):
        fetch(f"runs:/{run.id}", store / "cache")


def test_a_local_run_has_no_registry(tmp_path, model_folder):
    with (
        LocalRun("recsys", "toy", tmp_path / "run") as run,
        pytest.raises(InputError, match="this run is not in MLflow"),
    ):
        register(
            run, model_folder, "recommender", example=EXAMPLE, requirements=[], description="", metrics={}, data=""
        )


def test_a_graph_must_have_its_kind_for_a_name(put, store, model_folder):
    shutil.rmtree(model_folder)
    from headwise.model_folder import ModelCard, writing

    with writing(model_folder, ModelCard("recogniser", "toy", {}, {}, {}, {})) as draft:
        (draft / "other.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"a recogniser needs recogniser.onnx; its graphs are: other.onnx"):
        put()

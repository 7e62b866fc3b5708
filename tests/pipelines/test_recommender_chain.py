"""One command, from raw events to a served model: everything that it promises is there."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headwise.model_folder import read_card
from headwise.serving.app import create_app
from headwise.tracking.connection import connect
from headwise.training.checkpoints import restore
from headwise_pipelines.configuration import configure
from headwise_pipelines.recsys.presets import shopping
from headwise_pipelines.recsys.report import BASELINES, SPLITS
from headwise_pipelines.recsys.train import build
from headwise_pipelines.serve import load
from headwise_recsys.batches import ask
from headwise_recsys.prepare import prepare
from headwise_recsys.task import RecommenderTask

TOP = 10
ASKED = 200


def entry(trained: Any) -> Any:
    with trained.place.entered() as client:
        return client.get_run(trained.outcome["run"])


def test_answer_is_one_json_object_and_progress_goes_elsewhere(trained) -> None:
    assert trained.outcome.keys() >= {"run", "metrics", "baselines", "folder", "name", "version", "champion", "reason"}
    assert (trained.outcome["version"], trained.outcome["champion"]) == (1, True)
    assert trained.outcome["baselines"].keys() == BASELINES.keys()
    assert "epoch 3/3" in trained.err


def test_run_is_finished_with_configuration_data_and_commit(trained) -> None:
    run = entry(trained)
    assert run.info.status == "FINISHED"
    assert run.data.params.items() >= {"model.width": "14", "fit.epochs": "3", "preset": "shopping"}.items()
    assert run.data.tags.items() >= {"product": "recsys", "preset": "shopping", "data": "shop"}.items()
    assert "git commit" in run.data.tags
    [data] = run.inputs.dataset_inputs
    assert data.dataset.name == "shop"
    profile = json.loads(data.dataset.profile)
    assert (profile["users"], profile["items"]) == (211, 101)


def test_run_holds_every_metric_by_epoch_and_at_the_end(trained) -> None:
    metrics = entry(trained).data.metrics
    for name, value in trained.outcome["metrics"].items():
        assert metrics[f"test/{name}"] == value
    assert metrics["baseline/Markov/ndcg_10"] == trained.outcome["baselines"]["Markov"]["ndcg_10"]
    assert "temporal/baseline/Markov/ndcg_10" in metrics
    with trained.place.entered() as client:
        history = client.get_metric_history(trained.outcome["run"], "valid/ndcg_10")
        losses = client.get_metric_history(trained.outcome["run"], "train/loss")
    assert [len(history), len(losses)] == [3, 3]
    assert losses[-1].value < losses[0].value


def test_run_holds_figures_card_and_the_machine(trained, tmp_path) -> None:
    run = trained.outcome["run"]
    with trained.place.entered() as client:
        figures = {file.path for file in client.list_artifacts(run, "figures")}
        top = {file.path for file in client.list_artifacts(run)}
        text = Path(client.download_artifacts(run, "model_card.md", str(tmp_path))).read_text(encoding="utf-8")
    assert figures == {f"figures/{name}.png" for name in ("learning curves", "attention", "explanation")}
    assert top >= {"config.json", "model_card.md"}
    assert f"run `{run}`" in text
    assert "system/cpu_utilization_percentage" in entry(trained).data.metrics
    assert re.search(r"\| \*\*this model\*\* \|( [\d.e-]+ \|)+", text)


def test_model_folder_is_complete_and_says_where_it_comes_from(trained) -> None:
    card = read_card(trained.model)
    assert card.files.keys() == {
        "recommender.onnx",
        "explanation.onnx",
        "examples.npz",
        "vectors.npy",
        "categories.json",
        "items.json",
        "titles.json",
    }
    assert card.metrics == trained.outcome["metrics"]
    assert card.provenance["run"] == trained.outcome["run"]
    assert card.provenance["config"]["model"]["width"] == 14
    assert card.parity["rows"] > 0
    for parity in (card.parity, card.parity["explanation"]):
        assert parity["max_difference"] <= parity["tolerance"]


def test_registered_version_has_signature_example_requirements_and_card(trained) -> None:
    with trained.place.entered() as client:
        version = client.get_model_version_by_alias("recommender", "champion")
        info = connect().models.get_model_info("models:/recommender/1")
    assert version.run_id == trained.outcome["run"]
    assert version.description.startswith("# Recommender")
    assert [spec.name for spec in info.signature.inputs] == ["history", "lengths", "k", "exclude", "allow"]
    assert info.saved_input_example_info is not None


def test_nothing_half_written_is_left(trained) -> None:
    assert [name for name in trained.place.files() if "/." in name.removeprefix(".headwise/")] == []


def test_served_lists_are_those_of_the_trained_model(trained, talking_to) -> None:
    histories, want = trained_lists(trained)
    with trained.place.entered():
        app = create_app([load("models:/recommender@champion")])
    with talking_to(app) as client:
        answers = [
            client.post("/v1/recommendations", json={"history": history, "k": TOP}).json() for history in histories
        ]
    assert [[item["id"] for item in answer["items"]] for answer in answers] == want
    assert answers[0]["model"] == {"name": "recommender", "version": "1"}
    assert all(item["title"] for item in answers[0]["items"])


def trained_lists(trained: Any) -> tuple[list[list[str]], list[list[str]]]:
    """Real histories, and the ten items that the best checkpoint's model puts first."""
    flags = [argument for argument in trained.arguments if argument.startswith("--") and "=" in argument]
    config = configure(shopping, flags, command="test", again=None)
    data = prepare(trained.data, trained.place.folder / ".headwise/data", min_count=config.min_count)
    split = SPLITS[config.split](data)
    model = build(config, data, split)
    task = RecommenderTask(model, data, config.optimizer)
    restore(task, trained.model.parent / "checkpoints/best.ckpt")
    model.eval()
    queries = split.test[:ASKED]
    asked = ask(data, queries, model.window)
    with torch.inference_mode():
        scores = model.scores(model.expects(asked.history, asked.lengths)).numpy()
    scores[:, 0] = -np.inf
    histories = [data.items[a:b] for a, b in zip(queries.starts, queries.stops, strict=True)]
    for row, history in zip(scores, histories, strict=True):
        row[history] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]

    def own(items: Any) -> list[Any]:
        return [data.item_ids[item - 1] for item in items]

    return [own(history) for history in histories], [own(row) for row in best]


def test_export_gives_the_registered_bytes(trained, tmp_path) -> None:
    for number, model in enumerate((trained.outcome["run"], "models:/recommender/1")):
        out = tmp_path / f"out{number}"
        said = trained.place.run("export", model, "--out", out, "--json")
        assert said.json == {"folder": str(out), "kind": "recommender", "files": sorted(read_card(out).files)}
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            path.name: path.read_bytes() for path in trained.model.iterdir()
        }


def test_recommend_answers_in_words_and_in_json(trained) -> None:
    said = trained.place.run("recommend", "models:/recommender@champion", "sku-0002", "sku-0003", "-k", 5)
    assert (said.code, len(said.out.splitlines())) == (0, 5)
    ids = re.findall(r"sku-\d{4}", said.out)
    answer = trained.place.run("recommend", trained.model, "sku-0002", "sku-0003", "-k", 5, "--json").json
    assert [item["id"] for item in answer["items"]] == ids
    without = trained.place.run(
        "recommend", trained.model, "sku-0002", "sku-0003", "-k", 4, "--exclude", ids[0], "--json"
    ).json
    assert [item["id"] for item in without["items"]] == ids[1:]


def test_a_recommendation_is_explained_by_its_history(trained) -> None:
    asked = ("recommend", trained.model, "sku-0002", "sku-0003", "sku-0005", "-k", 5, "--json")
    answer, plain = trained.place.run(*asked, "--explain").json, trained.place.run(*asked).json
    assert [item["id"] for item in answer["history"]] == ["sku-0002", "sku-0003", "sku-0005"]
    assert sum(item["attention"] for item in answer["history"]) == pytest.approx(1, abs=1e-5)
    assert [item["id"] for item in answer["items"]] == [item["id"] for item in plain["items"]]
    without = trained.place.run("recommend", trained.model, "sku-0002", "sku-0005", "-k", 99, "--json").json
    scores = {item["id"]: item["score"] for item in without["items"]}
    for item in answer["items"]:
        assert item["leave_one_out"][1] == pytest.approx(item["score"] - scores[item["id"]], abs=1e-4)


def test_an_earlier_run_is_repeated_by_its_id(trained) -> None:
    said = trained.place.run(
        "train", "recsys", "shopping", "--from-run", trained.outcome["run"], "--fit.seed", 7, "--print_config"
    )
    assert said.code == 0, said.err
    assert {"  width: 14", "  window: 17", "tokens: 307", "  seed: 7"} <= set(said.out.splitlines())
    said = trained.place.run("train", "speech", "an4", "--data", trained.data, "--from-run", trained.outcome["run"])
    assert said.code == 2
    assert said.refusal.endswith("it is of recsys, not of speech")


def test_only_a_better_version_becomes_champion_unless_forced(trained, place) -> None:
    shutil.copyfile(trained.place.folder / "mlflow.db", place.folder / "mlflow.db")
    second = place.run(*trained.arguments, "--fit.seed=2", "--fit.epochs=1").json
    assert second["version"] == 2
    loser = 1 if second["champion"] else 2
    said = place.run("promote", "recommender", loser)
    assert said.code == 2
    refused = rf"models:/recommender/{loser} was not promoted: test/ndcg_10 [\d.e-]+ is not better than"
    assert re.match(refused, said.refusal)
    said = place.run("promote", "recommender", loser, "--force", "the others were tired", "--json")
    assert said.json["reason"] == "forced: the others were tired"
    with place.entered() as client:
        version = client.get_model_version_by_alias("recommender", "champion")
    assert int(version.version) == loser
    assert version.tags["headwise.champion"].split("\n")[0].endswith("forced: the others were tired")
    said = place.run("promote", "recommender", 3 - loser, "--force", "fast enough?", "--latency", 1e-9)
    assert said.code == 2
    assert re.search(r"not promoted: it takes [\d.e-]+ ms for a request, 1e-09 are allowed$", said.refusal)
    said = place.run("rollback", "recommender", "--reason", "they woke up", "--json")
    assert said.json == {
        "name": "recommender",
        "alias": "champion",
        "version": 3 - loser,
        "before": loser,
        "reason": "they woke up",
    }

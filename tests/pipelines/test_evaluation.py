"""`headwise evaluate`: the figures of the served model, what stands beside them, where they go, and what ends it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from headwise.model_folder import read_card, writing
from headwise_pipelines.recsys.publishing import EXPERIMENT, PAGE, VALUES

LISTED = ("hr_1", "hr_5", "hr_10", "hr_20", "ndcg_1", "ndcg_5", "ndcg_10", "ndcg_20")


@pytest.fixture(scope="module")
def evaluated(trained: Any) -> Any:
    said = trained.place.run("evaluate", "models:/recommender@champion", "--data", trained.data, "--json")
    assert said.code == 0, said.err
    return said.json


def split_of(answer: Any, name: str) -> Any:
    [found] = [split for split in answer["splits"] if split["split"] == name]
    return found


def test_served_figures_are_those_of_the_trained_model_and_its_baselines(trained, evaluated) -> None:
    assert evaluated["split"] == "leave-one-out"
    for name in LISTED:
        assert evaluated["metrics"][name] == pytest.approx(trained.outcome["metrics"][name], abs=1e-9)
        for baseline, values in trained.outcome["baselines"].items():
            assert evaluated["baselines"][baseline][name] == pytest.approx(values[name], abs=1e-12)
    assert evaluated["baselines"].keys() == trained.outcome["baselines"].keys()


def test_a_run_is_named_as_well_as_a_version(trained, evaluated) -> None:
    said = trained.place.run(
        *("evaluate", f"runs:/{trained.outcome['run']}", "--data", trained.data, "--split", "leave-one-out", "--json")
    )
    assert said.json["metrics"] == evaluated["metrics"]
    assert [split["split"] for split in said.json["splits"]] == ["leave-one-out"]


def test_every_figure_has_its_interval_and_every_baseline_its_test(evaluated) -> None:
    split = split_of(evaluated, "leave-one-out")
    model, *baselines = split["scored"]
    for each in split["scored"]:
        for name, (low, high) in each["intervals"].items():
            assert low <= each["metrics"][name] <= high
    tested = {(pair["other"], pair["metric"]) for pair in split["compared"]}
    assert tested == {(each["name"], metric) for each in baselines for metric in ("ndcg_10", "hr_10")}
    for pair in split["compared"]:
        assert 0 < pair["p"] <= pair["corrected"] <= 1
        assert pair["low"] <= pair["difference"] <= pair["high"]
        [other] = [each for each in baselines if each["name"] == pair["other"]]
        difference = model["metrics"][pair["metric"]] - other["metrics"][pair["metric"]]
        assert pair["difference"] == pytest.approx(difference)
    assert max(pair["corrected"] for pair in split["compared"]) <= len(split["compared"])


def test_curve_slices_and_ties_agree_with_the_figures(evaluated) -> None:
    for split in evaluated["splits"]:
        for each in split["scored"]:
            assert each["curve"][9] == pytest.approx(each["metrics"]["hr_10"], abs=1e-6)
            assert each["shares"][0] == 0
            assert each["shares"][-1] == pytest.approx(1)
            for parts in each["slices"].values():
                hits = sum(part["queries"] * part["hr_10"] for part in parts.values())
                assert hits / split["queries"] == pytest.approx(each["metrics"]["hr_10"])
            for metric, value in each["ties"]["worst"].items():
                assert value <= each["metrics"][metric] <= each["ties"]["best"][metric] + 1e-12


def test_a_model_that_knows_the_future_has_no_figure_there(trained, evaluated) -> None:
    split = split_of(evaluated, "temporal")
    [(name, reason)] = split["refused"].items()
    assert name == "models:/recommender@champion"
    assert re.fullmatch(
        r"it was trained on the leave-one-out split: [\d,]+ of [\d,]+ training events are not older than the first event "
        "that is asked for",
        reason,
    )
    assert {each["kind"] for each in split["scored"]} == {"baseline"}
    assert split["compared"] == []
    said = trained.place.run("evaluate", trained.model, "--data", trained.data, "--split", "temporal")
    assert said.code == 0, said.err
    assert "has no figure here: it was trained on the leave-one-out split" in said.out
    assert re.search(r"EASE.*0\.\d{4}", said.out)
    rows = [line for line in said.out.splitlines() if line.startswith("│")]
    assert not any(str(trained.model)[:12] in row for row in rows)


def test_a_model_of_the_temporal_split_has_its_figure_there_alone(trained, tmp_path) -> None:
    folder = of_split(trained.model, tmp_path / "temporal", "temporal")
    said = trained.place.run("evaluate", folder, "--data", trained.data, "--json")
    assert said.code == 0, said.err
    assert said.json["split"] == "temporal"
    assert split_of(said.json, "temporal")["scored"][0]["metrics"] == said.json["metrics"]
    [reason] = split_of(said.json, "leave-one-out")["refused"].values()
    assert re.fullmatch(r"it was trained on the temporal split: \d+ of 211 targets were trained on", reason)


def of_split(model: Path, target: Path, split: str) -> Path:
    """The same model, said to have been trained on another split."""
    card = read_card(model)
    provenance = {**card.provenance, "config": {**card.provenance["config"], "split": split}}
    with writing(target, replace(card, provenance=provenance)) as draft:
        for name in card.files:
            shutil.copyfile(model / name, draft / name)
    return target


def test_histories_were_shuffled_twice(evaluated) -> None:
    model = split_of(evaluated, "leave-one-out")["scored"][0]
    for what in ("all", "all but the last"):
        found = model["shuffled"][what]
        assert found["lost"] == pytest.approx(model["metrics"]["ndcg_10"] - found["ndcg_10"])
        assert found["low"] <= found["ndcg_10"] <= found["high"]
        assert found["ndcg_10"] != model["metrics"]["ndcg_10"]


def test_a_sampled_figure_is_made_on_request_and_named_so(trained, evaluated) -> None:
    assert "sampled" not in str(evaluated["metrics"])
    assert all(each["sampled"] == {} for split in evaluated["splits"] for each in split["scored"])
    said = trained.place.run(
        *("evaluate", trained.model, "--data", trained.data, "--split", "leave-one-out", "--sampled", 13, "--json")
    )
    for each in said.json["splits"][0]["scored"]:
        assert each["sampled"].keys() == {"sampled_13_hr_10", "sampled_13_ndcg_10"}
        assert each["sampled"]["sampled_13_hr_10"] >= each["metrics"]["hr_10"]
    assert "sampled_13_hr_10" in (trained.place.folder / said.json["page"]).read_text(encoding="utf-8")


def test_page_stands_by_itself_and_shows_every_figure(trained, evaluated) -> None:
    text = (trained.place.folder / evaluated["page"]).read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert text.count('src="data:image/svg+xml;base64,') == 6 + 4  # nothing is compared where there is no model
    assert f"{evaluated['metrics']['ndcg_10']:.4f}" in text
    assert "has no figure here" in text
    for word in ("By NDCG@10 models:/recommender@champion is", "coverage", "Gini", "novelty", "Leakage", "Holm 1979"):
        assert word in text


def test_everything_on_the_page_is_in_a_file_beside_it(trained, evaluated) -> None:
    page = trained.place.folder / evaluated["page"]
    assert {path.name for path in page.parent.iterdir()} == {PAGE, VALUES}
    values = json.loads((page.parent / VALUES).read_text(encoding="utf-8"))
    assert values == {key: evaluated[key] for key in values}


def test_mlflow_has_a_run_with_the_figures_the_page_and_the_data(trained, evaluated, tmp_path) -> None:
    run = evaluated["run"].rsplit("/", 1)[-1]
    with trained.place.entered() as client:
        found = client.get_run(run)
        files = {file.path for file in client.list_artifacts(run)}
        assert client.get_experiment(found.info.experiment_id).name == EXPERIMENT
    assert found.info.status == "FINISHED"
    assert files >= {PAGE, VALUES}
    assert found.data.tags.items() >= {"model run": trained.outcome["run"], "data": "shop"}.items()
    metrics = found.data.metrics
    assert metrics["leave-one-out/ndcg_10"] == evaluated["metrics"]["ndcg_10"]
    assert metrics["temporal/baseline/EASE/hr_10"] == split_of(evaluated, "temporal")["scored"][-1]["metrics"]["hr_10"]
    assert {"leave-one-out/coverage", "leave-one-out/less EASE/ndcg_10", "leave-one-out/less EASE/ndcg_10 p"} <= set(
        metrics
    )
    assert "temporal/ndcg_10" not in metrics
    [data] = found.inputs.dataset_inputs
    assert (data.dataset.name, data.tags[0].value) == ("shop", "evaluation")


def test_models_are_compared_on_the_same_queries(trained, evaluated, tmp_path) -> None:
    copy = tmp_path / "a <b> & c"
    shutil.copytree(trained.model, copy)
    said = trained.place.run(
        *("evaluate", trained.model, copy, "--data", trained.data, "--report", tmp_path / "page", "--json")
    )
    assert said.code == 0, said.err
    split = split_of(said.json, "leave-one-out")
    pairs = {
        pair["other"]: pair for pair in split["compared"] if pair["metric"] == "ndcg_10" and pair["model"] != str(copy)
    }
    assert pairs.keys() == {str(copy), *evaluated["baselines"]}
    assert (pairs[str(copy)]["difference"], pairs[str(copy)]["corrected"]) == (0, 1)
    assert len(split["compared"]) == 2 * (1 + 5 + 5)
    page = (tmp_path / "page" / PAGE).read_text(encoding="utf-8")
    assert "a &lt;b&gt; &amp; c" in page
    assert "<b> & c" not in page
    again = trained.place.run("evaluate", copy, copy, "--data", trained.data)
    assert again.refusal == f"{copy}: named more than once; name each model once"


def test_the_same_evaluation_gives_the_same_figures(trained, evaluated) -> None:
    said = trained.place.run("evaluate", "models:/recommender@champion", "--data", trained.data, "--json")
    assert said.json["splits"] == evaluated["splits"]
    assert said.json["page"] == evaluated["page"]


def test_other_data_may_have_been_trained_on_and_are_refused(trained, tmp_path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained.data, other)
    [table] = [path for path in other.iterdir() if path.suffix in (".csv", ".parquet")][:1]
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    said = trained.place.run("evaluate", trained.model, "--data", other)
    assert said.code == 2
    assert re.search(
        r": was trained on shop \(\w{12}\), these are \w+ \(\w{12}\), or read otherwise: what is asked may",
        said.refusal,
    )
    said = trained.place.run("evaluate", trained.model, "--data", other, "--other-data", "--json")
    assert said.code == 0, said.err
    assert "not verified, by --other-data: that the models were not trained on what is asked" in said.json["checks"]
    assert split_of(said.json, "temporal")["refused"] == {}  # nothing is known of its split on these data


def test_a_model_that_recommends_what_was_seen_is_refused(trained, tmp_path) -> None:
    folder = forgetful(trained.model, tmp_path / "forgetful")
    said = trained.place.run("evaluate", folder, "--data", trained.data, "--split", "leave-one-out")
    assert said.code == 2
    assert re.search(r": \d+ of 211 lists hold an item of their own history, which is never", said.err.splitlines()[-1])


def test_a_model_that_may_recommend_what_was_seen_is_asked_so(trained, tmp_path) -> None:
    folder = forgetful(trained.model, tmp_path / "again", repeats=True)
    said = trained.place.run("evaluate", folder, "--data", trained.data, "--split", "leave-one-out", "--json")
    assert said.code == 0, said.err
    [split] = said.json["splits"]
    assert split["again"] is True
    assert not any("its own history" in check for check in said.json["checks"])
    page = (trained.place.folder / said.json["page"]).read_text(encoding="utf-8")
    assert "is ranked, the history too: " in page
    mixed = trained.place.run("evaluate", folder, trained.model, "--data", trained.data)
    assert mixed.refusal == f"{folder}: recommends what was seen, the others do not; evaluate each kind by itself"


def forgetful(model: Path, target: Path, *, repeats: bool = False) -> Path:
    """A model folder whose graph always gives the first items of the catalogue."""
    card = read_card(model)
    card = replace(card, settings={**card.settings, "repeats": repeats})
    inputs = {"history": ["b", "t"], "lengths": ["b"], "k": [], "exclude": ["b", "e"], "allow": ["b", "a"]}
    catalogue = helper.make_tensor("items_all", TensorProto.INT64, [101], range(1, 102))
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Unsqueeze", ["k", "axis"], ["count"]),
            node("Slice", ["items_all", "axis", "count"], ["first"]),
            node("Shape", ["lengths"], ["rows"]),
            node("Concat", ["rows", "count"], ["shape"], axis=0),
            node("Expand", ["first", "shape"], ["items"]),
            node("Cast", ["items"], ["numbers"], to=TensorProto.FLOAT),
            node("Neg", ["numbers"], ["scores"]),
        ],
        "forgetful",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info("items", TensorProto.INT64, ["b", "n"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", "n"]),
        ],
        [catalogue, axis],
    )
    with writing(target, card) as draft:
        for name in card.files.keys() - {"examples.npz"}:  # of another graph
            shutil.copyfile(model / name, draft / name)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
        onnx.save(made, draft / "recommender.onnx")
    return target


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "--data", "nowhere"], "nowhere: there is no such file or folder; give the raw data with --data"),
        (
            ["RECOGNISER", "--data", "SHOP", "--split", "both"],
            "--split is for recommenders; RECOGNISER is a recogniser",
        ),
        (["RECOGNISER", "--data", "SHOP", "--report", "there"], "--report is for recommenders"),
        (["RECOGNISER", "--data", "SHOP", "--sampled", "7"], "--sampled is for recommenders"),
        (["RECOGNISER", "--data", "SHOP", "--other-data"], "--other-data is for recommenders"),
        (["RECOGNISER", "MODEL", "--data", "SHOP"], "only recommenders are compared with each other"),
        (["CIRCLE", "--data", "SHOP"], "the model knows none of its 101 items; is it the right data?"),
        (["MODEL", "--data", "SHOP", "--sampled", "99"], "99 items cannot be drawn for query"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(
    arguments, message, trained, shop, recogniser_folder, recommender_folder
) -> None:
    paths = {"MODEL": trained.model, "SHOP": shop, "RECOGNISER": recogniser_folder, "CIRCLE": recommender_folder}
    said = trained.place.run("evaluate", *(paths.get(argument, argument) for argument in arguments))
    assert said.code == 2
    for name, path in paths.items():
        message = message.replace(name, str(path))
    assert message in said.err.splitlines()[-1]


def test_a_model_called_like_a_baseline_is_refused(trained) -> None:
    shutil.copytree(trained.model, trained.place.folder / "EASE")
    said = trained.place.run("evaluate", "EASE", "--data", trained.data)
    assert said.refusal == "EASE: a baseline is called so, too; name the folder as ./EASE"


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_as_many_as_nothing_cannot_be_sampled(count, place) -> None:
    said = place.run("evaluate", "model", "--data", "data", f"--sampled={count}")
    assert said.code == 2
    assert said.err.endswith(f"argument --sampled: '{count}' is not a whole number from 1\n")

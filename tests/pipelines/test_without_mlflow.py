"""Training on a machine without MLflow: the same run, kept in plain files."""

import json
import sys

import pytest

from headwise.model_folder import read_card
from headwise_pipelines.command import main


@pytest.fixture
def alone(tmp_path, monkeypatch) -> None:
    """MLflow cannot be found."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.chdir(tmp_path)


def test_a_run_without_mlflow_has_the_same_figures_in_its_folder(alone, trained, tmp_path, capsys) -> None:
    assert main(trained.arguments) == 0
    outcome = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert outcome["metrics"] == trained.outcome["metrics"]
    assert (outcome["version"], outcome["champion"]) == (None, False)
    folder = tmp_path / outcome["folder"]
    assert read_card(folder).provenance["run"] == outcome["run"]
    run = folder.parent
    assert json.loads((run / "status.json").read_text(encoding="utf-8"))["status"] == "FINISHED"
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["model"]["width"] == 14
    figures = {path.name for path in (run / "figures").iterdir()}
    assert figures == {"learning curves.png", "attention.png", "explanation.png"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"train/loss", "valid/ndcg_10", "test/ndcg_10", "baseline/EASE/hr_10"} <= {
        key for line in lines for key in line
    }
    assert main(["recommend", outcome["folder"], "sku-0001"]) == 0
    assert capsys.readouterr().out.count("sku-") == 10
    assert main(["evaluate", outcome["folder"], "--data", str(trained.data), "--split", "leave-one-out"]) == 0
    said = capsys.readouterr().out
    assert "page     .headwise/evaluations/" in said
    assert "run      " not in said


@pytest.mark.parametrize(
    "line", ["export nosuch --out out", "promote recommender 1", "ui", "train recsys shopping --from-run x"]
)
def test_what_needs_mlflow_says_how_to_install_it(line, alone, capsys) -> None:
    assert main(line.split()) == 2
    assert "nstall" in capsys.readouterr().err

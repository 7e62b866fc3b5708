"""A model that is told when the next item was chosen: every figure of it says so, and none stands beside one of another class."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from headwise.errors import InputError
from headwise.model_folder import ModelCard
from headwise_pipelines.card import describe
from headwise_pipelines.recsys.evaluate import Asked, _alike, evaluate
from headwise_pipelines.recsys.export import export, settings
from headwise_pipelines.recsys.publishing import PAGE, _metrics, write
from headwise_recsys.model import sasrec
from headwise_recsys.prepare import prepare
from headwise_recsys.splits import leave_one_out


def served(**kinds: bool) -> Any:
    return SimpleNamespace(**{"repeats": False, "query_time": False} | kinds)


def test_classes_are_evaluated_each_by_itself() -> None:
    assert _alike({"a": served(), "b": served()}) == (False, False)
    assert _alike({"a": served(query_time=True)}) == (False, True)
    with pytest.raises(
        InputError, match=r"^a: knows the query's time, the others do not; evaluate each kind by itself$"
    ):
        _alike({"a": served(query_time=True), "b": served()})


def test_the_card_says_so() -> None:
    data = {"name": "toys", "source": "toys.csv", "fingerprint": "f", "profile": {}}
    provenance = {"product": "recsys", "preset": "shopping", "run": "r", "data": data}
    parity = {"rows": 3, "max_difference": 0.0, "tolerance": 1e-4}
    for query_time in (True, False):
        card = ModelCard("recommender", "n", {"query_time": query_time}, provenance, {"hr_10": 0.5}, parity)
        assert ("Of the class query-time" in describe(card, {})) is query_time


@pytest.mark.slow
def test_the_report_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [
        f"{user},{item},{1000 * place + user}"
        for user in range(31)
        for place, item in enumerate(rng.permutation(61)[:13])
    ]
    (tmp_path / "toys.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    data = prepare(tmp_path / "toys.csv", tmp_path / "data", min_count=1)
    torch.manual_seed(3)
    model = sasrec(data.item_count, window=7, width=10, blocks=1, heads=1, query_time=True).eval()
    card = ModelCard("recommender", "clock", settings(model), {"run": "r"}, {}, {})
    asked = Asked("clock", tmp_path / "clock", export(model, data, leave_one_out(data).valid, tmp_path / "clock", card))
    found = evaluate([asked], tmp_path / "toys.csv", splits=["leave-one-out"], work=tmp_path, other_data=True)
    assert found.plain()["splits"][0]["query_time"] is True
    assert found.splits[0].title == "leave-one-out, query-time"
    assert all(name.startswith("leave-one-out, query-time/") for name, _ in _metrics(found))
    assert write(found, tmp_path / "report").name == PAGE
    page = (tmp_path / "report" / PAGE).read_text(encoding="utf-8")
    assert "<h2>Leave-one-out, query-time split</h2>" in page
    assert "the model is told when the next item was chosen, the baselines are not" in page

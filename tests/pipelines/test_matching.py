"""What stands for the same in two catalogues or vocabularies, by hand."""

import json
from pathlib import Path

import numpy as np
import torch

from headwise_pipelines.recsys import matching as items
from headwise_pipelines.speech import matching as characters
from headwise_pipelines.start import Start
from headwise_recsys.interactions import Interactions
from headwise_recsys.model import SASRec, sasrec
from headwise_speech.text import BLANK, Vocabulary


def start(folder: Path, **weights: torch.Tensor) -> Start:
    return Start("r7", "toy on toys", {}, folder, {name.replace("_", "."): w for name, w in weights.items()}, False)


def model(window: int) -> SASRec:
    return sasrec(3, window=window, width=14, blocks=1)


def catalogue(ids: list, titles: list | None) -> Interactions:
    offsets = np.array([0, len(ids)])
    return Interactions(np.arange(1, len(ids) + 1), None, offsets, ["u"], ids, titles, "toys", "", "")


def write(folder: Path, **tables: object) -> None:
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table), encoding="utf-8")


def test_items_are_matched_by_title_whatever_their_ids_case_and_spaces(tmp_path):
    write(tmp_path, items=[1, 2, 3, 4], titles=["Alien (1979)", None, "Brazil (1985)", "Alien (1979)"])
    data = catalogue([1, 2, 3, 4, 5], ["brazil  (1985)", "Heat (1995)", " ALIEN (1979)", None, "Alien (1979)"])
    found = items.rows(start(tmp_path), model(5), data)
    assert found.keys() == {"embedding.weight"}
    assert (found["embedding.weight"].old, found["embedding.weight"].by) == ([0, 3, None, 1, None, 1], "title")


def test_items_are_matched_by_id_where_a_side_has_no_titles(tmp_path):
    write(tmp_path, items=[11, "b", 13])
    found = items.rows(start(tmp_path), model(5), catalogue(["13", "c", "b"], ["A", "B", "C"]))["embedding.weight"]
    assert (found.old, found.by) == ([0, 3, None, 2], "id")
    write(tmp_path, titles=["A", "B", "C"])
    found = items.rows(start(tmp_path), model(5), catalogue(["13", "c", "b"], None))["embedding.weight"]
    assert (found.old, found.by) == ([0, 3, None, 2], "id")


def test_transitions_follow_their_items(tmp_path):
    write(tmp_path, items=["b", "a"])
    tables = start(tmp_path, head_leaving_weight=torch.zeros(3, 7), head_arriving_weight=torch.zeros(3, 7))
    found = items.rows(tables, model(5), catalogue(["a", "b", "c"], None))
    assert found.keys() == {"embedding.weight", "head.leaving.weight", "head.arriving.weight"}
    assert all(rows.old == [0, 2, 1, None] for rows in found.values())


def test_positions_are_the_same_from_the_first_on(tmp_path):
    write(tmp_path, items=[1])
    tables = start(tmp_path, positions_table_weight=torch.zeros(3, 7))
    found = [items.rows(tables, model(window), catalogue([1], None))["positions.table.weight"].old for window in (2, 5)]
    assert found == [[0, 1], [0, 1, 2, None, None]]


def test_characters_are_matched_blank_and_space_included(tmp_path):
    Vocabulary((BLANK, " ", "A", "B", "N")).save(tmp_path / "vocabulary.json")
    found = characters.rows(start(tmp_path), Vocabulary((BLANK, " ", "B", "É", "N")))
    assert found.keys() == {"head.weight", "head.bias", "decoder.embedding.weight"}
    assert {tuple(rows.old) for rows in found.values()} == {(0, 1, 3, None, 4)}

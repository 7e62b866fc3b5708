"""New items in a trained model, by their features: nothing is trained, and what it said of old items stays."""

import json
import shutil

import numpy as np
import pytest

from headwise.model_folder import read_card
from headwise_recsys.service import load


@pytest.fixture(scope="module")
def featured(new_place, shop):
    """A run whose model knows items by their features too."""
    place = new_place()
    flags = (
        "--model.features",
        "material,kind",
        "--fit.epochs",
        "2",
        "--model.width",
        "22",
        "--model.blocks",
        "1",
        "--model.transition",
        "5",
    )
    said = place.run("train", "recsys", "shopping", "--data", shop, *flags, "--json")
    assert said.code == 0, said.err
    return place, place.folder / said.json["folder"], said.json["run"]


def more_items(place, shop, text):
    table = place.folder / "more.csv"
    table.write_text((shop / "items.csv").read_text(encoding="utf-8") + text, encoding="utf-8")
    return table


@pytest.mark.slow
def test_a_new_item_stands_beside_its_likes(featured, shop):
    place, folder, run = featured
    lines = (shop / "items.csv").read_text(encoding="utf-8").splitlines()
    _, title, material, kind = lines[5].split(",")
    table = more_items(place, shop, f"new-1,new {title},{material},{kind}\nnew-2,unlike,{material},\n")
    said = place.run("extend", run, "--items", table, "--data", shop, "--out", "grown", "--json")
    assert said.code == 0, said.err
    assert said.json["added"] == 2
    before, after = load(folder), load(place.folder / "grown")
    history = [line.split(",")[0] for line in lines[10:15]]
    old, new = (service.recommend_many([history], 20)[0] for service in (before, after))
    assert [item for item in new if not item.startswith("new-")][:15] == old[:15]
    assert after.recommend_many([["new-1", *history]], 5)[0]  # a history may hold it
    assert json.loads((place.folder / "grown/items.json").read_text())[-2:] == ["new-1", "new-2"]
    assert read_card(place.folder / "grown").name.endswith("2 more items")
    arriving = np.load(place.folder / "grown/vectors.npy")[:, -5:]  # nothing has ever led to a new item
    assert not arriving[-2:].any()
    assert arriving[1:-2].any(axis=1).all()


@pytest.mark.slow
def test_says_what_is_wrong(featured, shop, trained):
    place, _, run = featured
    out = ("--out", "never", "--json")
    known = place.run("extend", run, "--items", shop / "items.csv", "--data", shop, *out)
    assert (known.code, "there is nothing to add" in known.err) == (2, True), known.err
    table = place.folder / "less.csv"
    table.write_text("item,title,kind\nnew-1,A desk,desk\n", encoding="utf-8")
    less = place.run("extend", run, "--items", table, "--data", shop, *out)
    assert (less.code, "has no material" in less.err) == (2, True), less.err
    ids = trained.place.run("extend", trained.model, "--items", shop / "items.csv", "--data", shop, *out)
    assert (ids.code, "train it with --model.features all" in ids.err) == (2, True), ids.err
    other = place.folder / "other"
    shutil.copytree(shop, other)
    with (other / "events.csv").open("a", encoding="utf-8") as events:
        events.write(f"user-0,sku-0001,{1_800_000_000}\n")
    data = place.run("extend", run, "--items", table, "--data", other, *out)
    assert (data.code, "not the data that" in data.err) == (2, True), data.err
    assert not (place.folder / "never").exists()


@pytest.mark.slow
def test_features_that_the_data_lack_are_named(new_place, shop):
    said = new_place().run("train", "recsys", "shopping", "--data", shop, "--model.features", "colour")
    assert said.code == 2
    assert "model.features (colour) asks for what is not known of its items; known: material, kind" in said.err

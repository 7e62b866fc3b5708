"""Which items of another catalogue are the same: two data sets rarely number the same films alike."""

import unicodedata

from headwise.model_folder import read_table
from headwise.training.initialise import Rows
from headwise_pipelines.start import Start
from headwise_recsys.interactions import Id, Interactions
from headwise_recsys.model import SASRec

PADDING = "padding"  # item 0, no title or id of the source


def rows(start: Start, model: SASRec, data: Interactions) -> dict[str, Rows]:
    """How the tables of a recommender are matched with those of the run that it starts from."""
    matched = {"embedding.weight": _items(start, data)}
    if model.positions is not None:
        there = start.weights.get("positions.table.weight", ())
        matched["positions.table.weight"] = Rows.matching(range(model.window), range(len(there)), "position")
    return matched


def _items(start: Start, data: Interactions) -> Rows:
    # Titles where both catalogues have them: the ids of two sources are likely to agree by accident alone.
    ids: list[Id] = read_table(start.tables / "items.json", list[Id])
    path = start.tables / "titles.json"
    if data.titles is not None and path.is_file():
        titles = read_table(path, list[str | None])
        new, old = ([_title(title) for title in side] for side in (data.titles, titles))
        return Rows.matching([(PADDING,), *new], [(PADDING,), *old], "title")
    new_ids, old_ids = ([str(one) for one in side] for side in (data.item_ids, ids))
    return Rows.matching([(PADDING,), *new_ids], [(PADDING,), *old_ids], "id")


def _title(title: str | None) -> str | None:
    return None if title is None else " ".join(unicodedata.normalize("NFKC", title).casefold().split())

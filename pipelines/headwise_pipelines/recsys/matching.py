"""Which items of another catalogue are the same: two data sets rarely number the same films alike."""

import unicodedata

from headwise.model_folder import read_table
from headwise.training.initialise import Rows
from headwise_pipelines.start import Start
from headwise_recsys.ids import Id
from headwise_recsys.interactions import Interactions
from headwise_recsys.model import Items, SASRec

PADDING = ("padding",)  # item 0, which is no title or id of any source
POSITIONS = "positions.table.weight"  # where positions are learned
OWN = ("embedding.weight", "embedding.own.weight")  # an item's own vector, without and with features beside it
TRANSITIONS = ("head.leaving.weight", "head.arriving.weight")  # where the head has a transition

ITEM_TABLES = (*OWN, *TRANSITIONS)


def rows(start: Start, model: SASRec, data: Interactions) -> dict[str, Rows]:
    """How the tables of a recommender are matched with those of the run that it starts from."""
    items = _items(start, data)
    own = OWN[isinstance(model.embedding, Items)]
    matched = dict.fromkeys((own, *(name for name in TRANSITIONS if name in start.weights)), items)
    if POSITIONS in start.weights:
        matched[POSITIONS] = Rows.matching(range(model.window), range(len(start.weights[POSITIONS])), "position")
    return matched


def _items(start: Start, data: Interactions) -> Rows:
    # Titles where both catalogues have them: the ids of two sources are likely to agree by accident alone.
    path = start.tables / "titles.json"
    if data.titles is not None and path.is_file():
        titles = read_table(path, list[str | None])
        new, old = ([_title(title) for title in side] for side in (data.titles, titles))
        return Rows.matching([PADDING, *new], [PADDING, *old], "title")
    ids: list[Id] = read_table(start.tables / "items.json", list[Id])
    return Rows.matching([PADDING, *map(str, data.item_ids)], [PADDING, *map(str, ids)], "id")


def _title(title: str | None) -> str | None:
    return None if title is None else " ".join(unicodedata.normalize("NFKC", title).casefold().split())

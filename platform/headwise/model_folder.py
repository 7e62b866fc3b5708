"""The folder that a model travels in: its ONNX graphs, what is needed to use them, and a card that vouches for every byte.

    model.json     kind, format, provenance, parity figures, and the size and SHA-256 of every other file
    *.onnx         the graphs
    the rest       what the product's service reads: id maps, titles, vocabulary

Export writes it and the server reads it; neither needs the other. Nothing in it is ever unpickled.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from headwise.errors import InputError, NotFound
from headwise.files import replacing, sha256

Table = TypeVar("Table")

CARD = "model.json"
FORMAT = 1


@dataclass(frozen=True)
class ModelCard:
    """What `model.json` says; every value is plain JSON."""

    kind: str  # "recommender" or "recogniser": which service reads this folder
    name: str  # the preset or data that it was trained on, for people
    settings: Mapping[str, Any]  # what the service needs: window, sample rate, graph inputs
    provenance: Mapping[str, Any]  # run id, data fingerprint, git commit, versions, time of writing (UTC, ISO 8601)
    metrics: Mapping[str, float]  # test metrics at the time of export
    parity: Mapping[str, Any]  # how far the graph is from torch, and on what
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> {"bytes", "sha256"}
    format: int = FORMAT


@contextmanager
def writing(target: Path, card: ModelCard) -> Iterator[Path]:
    """A draft folder to put graphs and tables in; at the end of the block it is sealed with `model.json` and becomes `target`.

    When the block raises, `target` stays as it was.
    """
    with replacing(target) as draft:
        draft.mkdir()
        yield draft
        files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(draft.iterdir())}
        text = json.dumps(asdict(card) | {"files": files}, indent=2, sort_keys=True, ensure_ascii=False)
        (draft / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path, verify: bool = True) -> ModelCard:
    """The card of a model folder, after checking every file that it lists.

    Args:
        folder: where `model.json` lies.
        verify: compare the SHA-256 of every listed file, not only its size.

    Raises:
        NotFound: there is no `model.json`.
        InputError: it cannot be read, is of another format, or a file is missing or changed.
    """
    path = folder / CARD
    if not path.is_file():
        raise NotFound(f"{folder}: not a model folder, it has no {CARD}; make one with `headwise export RUN --out DIR`")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise InputError(
                f"{path}: format {values['format']}, this version of headwise reads {FORMAT}; export the model again"
            )
        card = ModelCard(**values)
        listed = {str(name): (int(facts["bytes"]), str(facts["sha256"])) for name, facts in card.files.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({error!r}); export the model again") from error
    for name, facts in listed.items():
        _check(folder, name, facts, verify)
    return card


def read_table(path: Path, kind: type[Table]) -> Table:
    """A JSON table of a model folder, checked to be of a type.

    Args:
        path: the file.
        kind: what it must hold, such as `list[str]`.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    import msgspec  # the server's; whoever only writes folders need not have it

    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); export the model again") from error


def _check(folder: Path, name: str, facts: tuple[int, str], verify: bool) -> None:
    path = folder / name
    if Path(name).name != name:
        raise InputError(f"{folder / CARD}: lists {name!r}, which is outside the folder")
    if not path.is_file():
        raise InputError(f"{folder}: {name} is missing; export or fetch the model again")
    (size, digest), found = facts, path.stat().st_size
    if found != size:
        raise InputError(f"{path}: {found} bytes, {CARD} says {size}; export or fetch the model again")
    if verify and sha256(path) != digest:
        raise InputError(f"{path}: its bytes are not those that {CARD} vouches for; export or fetch the model again")

"""Models in use: served over HTTP, or asked once from the command line. No torch in this process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headwise.errors import InputError
from headwise.model_folder import read_card
from headwise.serving.app import create_app
from headwise.serving.registry import Located, resolve
from headwise.serving.server import run
from headwise.serving.service import Service


def serve(models: Sequence[str], *, host: str, port: int, threads: int, max_seconds: float) -> None:
    """Answers requests until it is stopped.

    Args:
        models: `models:/name@alias`, `models:/name/version` or model folders, one of each kind at most.
        host: address to listen on.
        port: 0 takes a free one.
        threads: of one run of a graph.
        max_seconds: longest recording to accept.
    """
    run(create_app([load(model, threads=threads, max_seconds=max_seconds) for model in models]), host, port)


def load(model: str, *, threads: int = 1, max_seconds: float = 60.0) -> Service:
    """The service of whichever product the model is of.

    Raises:
        NotFound: there is no such model.
        InputError: it is damaged, or of a kind that this version does not know.
    """
    located = resolve(model)
    kind = read_card(located.folder, verify=False).kind
    if kind == "recommender":
        return _recommender(located, threads)
    if kind == "recogniser":
        return _recogniser(located, threads, max_seconds)
    raise InputError(f"{located.folder}/model.json: kind is {kind!r}; this version serves recommender and recogniser")


def recommend(model: str, items: Sequence[str], *, k: int, exclude: Sequence[str], quiet: bool) -> Mapping[str, Any]:
    """What a recommender says after `items`; printed as a list unless `quiet`."""
    service = _of_kind(model, "recommender")
    answer = service.recommend(
        [service.own_id(item) for item in items], k, exclude=[service.own_id(item) for item in exclude]
    )
    if not quiet:
        for place, item in enumerate(answer.items, 1):
            print(f"{place:3}  {item.score:8.3f}  {item.id}  {item.title or ''}".rstrip())
    return dict(msgspec.to_builtins(answer))


def transcribe(model: str, files: Sequence[Path], *, quiet: bool) -> Mapping[str, Any]:
    """What a recogniser hears in files; a line each unless `quiet`."""
    service = _of_kind(model, "recogniser")
    answers = {}
    for file in files:
        answers[str(file)] = msgspec.to_builtins(service.transcribe(file))
        if not quiet:
            text = answers[str(file)]["text"]
            print(f"{file}: {text}" if len(files) > 1 else text, flush=True)
    return {"files": answers}


def _of_kind(model: str, kind: str) -> Any:
    service = load(model)
    if service.kind != kind:
        raise InputError(f"{model}: a {service.kind}, a {kind} is needed here")
    return service


def _recommender(located: Located, threads: int) -> Service:
    from headwise_recsys.service import load as load_recommender

    return load_recommender(
        located.folder, name=located.name or "recommender", version=located.version, threads=threads
    )


def _recogniser(located: Located, threads: int, max_seconds: float) -> Service:
    from headwise_speech.service import load as load_recogniser

    return load_recogniser(
        located.folder,
        name=located.name or "recogniser",
        version=located.version,
        threads=threads,
        max_seconds=max_seconds,
    )

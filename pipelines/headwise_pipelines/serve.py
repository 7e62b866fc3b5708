"""Models in use: served over HTTP, or asked once from the command line. No torch in this process."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headwise.errors import InputError
from headwise.model_folder import read_card
from headwise.serving.access import Access
from headwise.serving.app import DEADLINE, create_app
from headwise.serving.registry import Located, moves, resolve, version_of
from headwise.serving.server import run
from headwise.serving.service import Service

BAR = 20  # characters


def serve(
    models: Sequence[str],
    *,
    host: str,
    port: int,
    threads: int,
    max_seconds: float,
    deadline: float = DEADLINE,
    key_file: Path | None = None,
    origins: Sequence[str] = (),
    shadows: Sequence[str] = (),
) -> None:
    """Answers requests until it is stopped; where an alias moves meanwhile, with the version that it then names.

    Args:
        models: `models:/name@alias`, `models:/name/version` or model folders, one of each kind at most.
        host: address to listen on.
        port: 0 takes a free one.
        threads: of one run of a graph.
        max_seconds: longest recording to accept.
        deadline: seconds after which a request is given up.
        key_file: with an API key a line; without any, and without HEADWISE_API_KEYS, everybody may ask.
        origins: whose pages may ask from a browser.
        shadows: candidates, named as models are, that are asked the same, unseen.

    Raises:
        NotFound: there is no such model.
        InputError: a model, a key or an origin is not what it should be.
    """
    if not 0 < deadline < math.inf:
        raise InputError(f"--deadline {deadline:g}: seconds above 0 are needed")
    access = Access.of(key_file=key_file, origins=origins)
    services = [load(model, threads=threads, max_seconds=max_seconds) for model in models]
    sources = {
        service.name: Registered(model, threads, max_seconds)
        for model, service in zip(models, services, strict=True)
        if moves(model)
    }
    beside = [load(model, threads=threads, max_seconds=max_seconds) for model in shadows]
    run(create_app(services, sources, shadows=beside, access=access, deadline=deadline), host, port)


@dataclass(frozen=True)
class Registered:
    """The versions that an alias in the registry names, one after the other; a `headwise.serving.changing.Source`.

    Attributes:
        reference: `models:/name@alias`.
        threads: of one run of a graph.
        max_seconds: longest recording to accept.
    """

    reference: str
    threads: int
    max_seconds: float

    def version(self) -> str:
        """The version that it names now."""
        return version_of(self.reference)

    def load(self, version: str) -> Service:
        """A version, ready to be started."""
        name = re.split("[@/]", self.reference.removeprefix("models:/"))[0]
        return load(f"models:/{name}/{version}", threads=self.threads, max_seconds=self.max_seconds)


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


def recommend(
    model: str, items: Sequence[str], *, k: int, exclude: Sequence[str], explain: bool, quiet: bool
) -> Mapping[str, Any]:
    """What a recommender says after `items`, and with `explain` what carried it; printed as lists unless `quiet`."""
    service = of_kind(model, "recommender")
    history, without = ([service.own_id(item) for item in each] for each in (items, exclude))
    answer = service.recommend(history, k, exclude=without, explain=explain)
    if not quiet:
        for place, item in enumerate(answer.items, 1):
            print(f"{place:3}  {item.score:8.3f}  {item.id}  {item.title or ''}".rstrip() + _carrier(item, answer))
        if explain:
            _print_history(answer.history)
    return dict(msgspec.to_builtins(answer))


def _carrier(item: Any, answer: Any) -> str:
    drops = item.leave_one_out
    if not drops or max(drops) <= 0:
        return ""
    return f"   (carried by {_name(answer.history[drops.index(max(drops))])})"


def _print_history(history: Sequence[Any]) -> None:
    most = max((item.attention for item in history), default=1.0)
    print("\nwhat the model looked at, newest first:")
    for item in reversed(history):
        print(f"{item.attention:6.1%}  {'█' * round(BAR * item.attention / most):{BAR}}  {_name(item)}")


def _name(item: Any) -> str:
    return str(item.title or item.id)


def of_kind(model: str, kind: str, *, max_seconds: float = 60.0) -> Any:
    """The service of a model that must be of a kind.

    Raises:
        InputError: it is of another one.
    """
    service = load(model, max_seconds=max_seconds)
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

"""Which version of a model serves: the champion, until a better one was measured on the same data."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from headwise.errors import InputError, NotFound
from headwise.tracking.connection import answered, connect
from headwise.tracking.describe import metric_name
from headwise.tracking.registry import DATA_TAG, METRIC_TAG, version_of

CHAMPION = "champion"


@dataclass(frozen=True)
class Decision:
    """Whether a version was promoted, and why."""

    promoted: bool
    reason: str
    before: int | None  # the version that held the alias


def promote(
    name: str,
    version: int,
    *,
    metric: str,
    mode: Literal["min", "max"] = "max",
    alias: str = CHAMPION,
    force: str = "",
) -> Decision:
    """Give a version the alias if it earned it, and write the decision with its reason on the version either way.

    It earned it when nobody holds the alias, or when its test metric is better than the holder's on the same data.

    Args:
        name: registered name.
        version: the candidate.
        metric: test metric to compare, as it was given to `register`.
        mode: whether a lower or a higher one is better.
        alias: usually the champion.
        force: a reason to promote all the same.

    Raises:
        NotFound: no such name or version.
    """
    client = connect().MlflowClient()
    candidate = version_of(client, name, version=str(version))
    holder = _holder(client, name, alias)
    promoted, reason = (True, f"forced: {force}") if force else _judge(candidate, holder, metric, mode)
    word = "promoted" if promoted else "refused"
    with answered():
        when = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(name, str(version), f"headwise.{alias}", f"{word} {when}: {reason}")
        if promoted:
            client.set_registered_model_alias(name, alias, str(version))
    return Decision(promoted, reason, int(holder.version) if holder else None)


def _holder(client: Any, name: str, alias: str) -> Any:
    try:
        return version_of(client, name, alias=alias)
    except NotFound:
        return None


def _judge(candidate: Any, holder: Any, metric: str, mode: str) -> tuple[bool, str]:
    if holder is None:
        return True, "nobody held it"
    if int(holder.version) == int(candidate.version):
        return True, "it holds it already"
    ours, theirs = _measured(candidate, metric), _measured(holder, metric)
    if candidate.tags.get(DATA_TAG) != holder.tags.get(DATA_TAG):
        return False, (
            f"{metric} of version {candidate.version} and of version {holder.version} were measured on different data; "
            "evaluate both on one, or force it with a reason"
        )
    better = ours < theirs if mode == "min" else ours > theirs
    verdict = "better than" if better else "not better than"
    return better, f"{metric} {ours:.6g} is {verdict} {theirs:.6g} of version {holder.version}"


def _measured(version: Any, metric: str) -> float:
    tag = METRIC_TAG + metric_name(metric)
    if tag not in version.tags:
        known = ", ".join(sorted(key.removeprefix(METRIC_TAG) for key in version.tags if key.startswith(METRIC_TAG)))
        raise InputError(f"models:/{version.name}/{version.version}: has no metric {metric}; it has: {known or 'none'}")
    return float(version.tags[tag])

"""Which version of a model serves: the champion, until a later one is shown to be better on the same test."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from headwise.errors import InputError, NotFound
from headwise.significance import compare
from headwise.tracking.connection import answered, connect
from headwise.tracking.describe import metric_name
from headwise.tracking.evidence import evidence_of
from headwise.tracking.registry import DATA_TAG, METRIC_TAG, version_of

CHAMPION = "champion"
LEVEL = 0.05  # how often a version that is no better may pass for one
HISTORY = 5000  # characters of a tag that MLflow keeps


@dataclass(frozen=True)
class Decision:
    """Whether the alias moved, and why.

    Attributes:
        promoted: whether it moved.
        reason: for people.
        before: the version that held the alias, None if nobody did.
        after: the version that holds it now.
    """

    promoted: bool
    reason: str
    before: int | None
    after: int | None


def promote(
    name: str,
    version: int,
    *,
    metric: str,
    mode: Literal["min", "max"] = "max",
    alias: str = CHAMPION,
    force: str = "",
    objection: str = "",
) -> Decision:
    """Give a version the alias if it earned it, and write the decision with its reason on the version either way.

    It earned it when nobody holds the alias, or when it is better than the holder on the same test cases and the paired
    test says that chance alone makes such a difference in fewer than 5 of 100 cases.

    Args:
        name: registered name.
        version: the candidate.
        metric: test metric to compare, as it was given to `register`.
        mode: whether a lower or a higher one is better.
        alias: usually the champion.
        force: a reason to promote all the same.
        objection: a reason to refuse whatever the figures say, and whoever forces it.

    Raises:
        NotFound: no such name or version.
        InputError: a version has no such metric.
    """
    client = connect().MlflowClient()
    candidate = version_of(client, name, version=str(version))
    holder = _holder(client, name, alias)
    if objection:
        promoted, reason = False, objection
    elif force:
        promoted, reason = True, f"forced: {force}"
    else:
        promoted, reason = _judge(candidate, holder, metric, mode)
    before = int(holder.version) if holder else None
    _record(client, candidate, alias, f"{'promoted' if promoted else 'refused'}: {reason}")
    if promoted:
        with answered():
            if before not in (None, version):
                client.set_model_version_tag(name, str(version), _before(alias), str(before))
            client.set_registered_model_alias(name, alias, str(version))
    return Decision(promoted, reason, before, version if promoted else before)


def roll_back(name: str, *, alias: str = CHAMPION, reason: str) -> Decision:
    """Give the alias back to the version that held it before the present holder, and write it down with its reason.

    Raises:
        NotFound: no such name, nobody holds the alias, or the version before has been deleted.
        InputError: nobody held the alias before.
    """
    client = connect().MlflowClient()
    holder = version_of(client, name, alias=alias)
    before = holder.tags.get(_before(alias))
    if before is None:
        raise InputError(
            f"models:/{name}@{alias}: version {holder.version} is the first that held it; nothing to go back to"
        )
    earlier = version_of(client, name, version=before)
    _record(client, holder, alias, f"taken back: {reason}")
    _record(client, earlier, alias, f"promoted: version {holder.version} was taken back: {reason}")
    with answered():
        client.set_registered_model_alias(name, alias, before)
    return Decision(True, reason, int(holder.version), int(before))


def _before(alias: str) -> str:
    return f"headwise.{alias}.before"


def _record(client: Any, version: Any, alias: str, decision: str) -> None:
    # All decisions about a version stand in one tag, the latest first.
    key, when = f"headwise.{alias}", datetime.now(UTC).isoformat(timespec="seconds")
    lines = [f"{when} {decision}", version.tags.get(key, "")]
    with answered():
        client.set_model_version_tag(version.name, version.version, key, "\n".join(lines).strip()[:HISTORY])


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
    if not better:
        return False, f"{metric} {ours:.6g} is not better than {theirs:.6g} of version {holder.version}"
    return _tested(candidate, holder, f"{metric} {ours:.6g} is better than {theirs:.6g} of version {holder.version}")


def _tested(candidate: Any, holder: Any, better: str) -> tuple[bool, str]:
    ours, theirs = evidence_of(candidate.run_id), evidence_of(holder.run_id)
    for version, evidence in ((candidate, ours), (holder, theirs)):
        if evidence is None:
            return False, (
                f"{better}, but version {version.version} kept no figures of single test cases, so the difference cannot be "
                "tested; train it again, or force it with a reason"
            )
    assert ours is not None
    assert theirs is not None
    if (ours.metric, ours.test, ours.values.shape) != (theirs.metric, theirs.test, theirs.values.shape):
        return False, (
            f"{better}, but one was tested on {len(ours.values)} cases of {ours.test} ({ours.metric}), the other on "
            f"{len(theirs.values)} of {theirs.test} ({theirs.metric}); train both alike, or force it with a reason"
        )
    p = compare(ours.values, theirs.values).p
    found = f"by a paired test over {len(ours.values):,} cases, p = {p:.2g}"
    return (True, f"{better}, {found}") if p < LEVEL else (False, f"{better}, but that may be chance: {found}")


def _measured(version: Any, metric: str) -> float:
    tag = METRIC_TAG + metric_name(metric)
    if tag not in version.tags:
        known = ", ".join(sorted(key.removeprefix(METRIC_TAG) for key in version.tags if key.startswith(METRIC_TAG)))
        raise InputError(f"models:/{version.name}/{version.version}: has no metric {metric}; it has: {known or 'none'}")
    return float(version.tags[tag])

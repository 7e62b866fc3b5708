"""What is asked of the recommender over HTTP and what it answers, as clients and the OpenAPI page know it."""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from headwise.serving.openapi import problem_responses
from headwise_recsys.ids import Id

Feature: TypeAlias = str | float | list[str | float] | None  # a category, a number, several categories or a vector
MAX_EXPLAINED = 100  # items of an answer that is explained
POOL = 200  # items that diversity and quotas choose from


class RecommendationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /v1/recommendations` takes."""

    history: Annotated[list[Id], msgspec.Meta(description="What the user has done, oldest first, by your own ids.")]
    k: Annotated[
        int | None,
        msgspec.Meta(description="How many items to recommend; 10 if left out, or all where there are fewer."),
    ] = None
    exclude: Annotated[
        list[Id],
        msgspec.Meta(
            description="Never recommend these; nor are items of the history, unless "
            "the model's settings say `repeats`."
        ),
    ] = []
    allow: Annotated[
        list[Id] | None, msgspec.Meta(description="Recommend only these; left out or null: the whole catalogue.")
    ] = None
    on_unknown: Annotated[
        Literal["error", "ignore"],
        msgspec.Meta(description="An id that the model does not know: refuse the request, or go on without that id."),
    ] = "error"
    diversity: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=1,
            description="How unlike each other the items shall be: 0 leaves them in the order of their scores, 1 cares for "
            f"nothing else (maximal marginal relevance over the best {POOL}).",
        ),
    ] = 0.0
    at_most: Annotated[
        dict[str, Annotated[int, msgspec.Meta(ge=0)]],
        msgspec.Meta(
            description='How many items may share a category of one feature: {"genres": 2}. An item of several counts in '
            "its first."
        ),
    ] = {}
    times: Annotated[
        list[float] | None,
        msgspec.Meta(
            description="When each item of `history` was chosen, in seconds since 1970. Needed by a model whose settings say "
            "`timed`; others pass them over."
        ),
    ] = None
    at: Annotated[
        float | None,
        msgspec.Meta(
            description="When the recommendation is asked for, in seconds since 1970; now if left out. Read by a model whose "
            "settings say `query_time`; others pass it over."
        ),
    ] = None
    events: Annotated[
        list[str] | None,
        msgspec.Meta(
            description='What was done with each item of `history`, such as "view" or "buy", by the names of the data. Needed by '
            "a model whose settings have `event_types`; others pass them over. A type that the model does not know is refused, "
            'or with "on_unknown": "ignore" says nothing.'
        ),
    ] = None
    user: Annotated[
        dict[str, Feature] | None,
        msgspec.Meta(
            description='What is known of the user, by the names of the data: {"gender": "F", "age": 25}. Read by a model '
            "whose settings name `user_features`; others pass it over. What is left out, or a category that the model does not "
            "know, says nothing."
        ),
    ] = None
    explain: Annotated[
        bool,
        msgspec.Meta(
            description="Add what the answer came from: `history`, and `leave_one_out` on each item. "
            f"Takes longer, and k is {MAX_EXPLAINED} at most."
        ),
    ] = False


class Recommendation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recommended item."""

    id: Id
    score: Annotated[
        float, msgspec.Meta(description="The model's; higher is better, comparable within one answer only.")
    ]
    title: str | None = None
    leave_one_out: Annotated[
        list[float] | None,
        msgspec.Meta(
            description="With `explain`: how far this score falls when one item of `history` is left out, in their order; "
            "negative where it rises. The largest carried the recommendation. Left out for a history of one item."
        ),
    ] = None


class Read(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of the history, as the model read it."""

    id: Id
    attention: Annotated[
        float,
        msgspec.Meta(
            description="Its share of what the model looked at, by attention rollout; the shares of a history sum to 1."
        ),
    ]
    title: str | None = None


class Model(msgspec.Struct, frozen=True):
    """The model that answered."""

    name: str
    version: str | None


class Recommendations(msgspec.Struct, frozen=True):
    """What `POST /v1/recommendations` answers."""

    items: Annotated[
        list[Recommendation], msgspec.Meta(description="The best first; fewer than k if no more may be shown.")
    ]
    model: Model
    unknown: Annotated[list[Id], msgspec.Meta(description='Ids that were ignored, with "on_unknown": "ignore".')] = []
    history: Annotated[
        list[Read] | msgspec.UnsetType,
        msgspec.Meta(
            description="With `explain`: the items that the model read, oldest first: the last `window` that it knows. "
            "Empty where `allow` left nothing to recommend."
        ),
    ] = msgspec.UNSET


def described(kind: str, example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operation as OpenAPI describes it, and the schemas that it refers to.

    Args:
        kind: of the model that answers.
        example: a request that works.
    """
    (request, answer), schemas = msgspec.json.schema_components(
        [RecommendationRequest, Recommendations], ref_template="#/components/schemas/{name}"
    )
    found = {
        "items": [{"id": example["history"][0], "score": 4.25, "title": "a title, where the catalogue has one"}],
        "model": {"name": kind, "version": "3"},
        "unknown": [],
    }
    operation = {
        "summary": "The next items for a user",
        "description": (
            "Ids are your own. Items of the history are not recommended, unless the model's settings say `repeats`, nor are "
            "those in `exclude`. "
            "The model reads the last `window` items of the history (see `/v1/models`); older ones still count as seen. "
            'An id that the model does not know is refused with 422 and listed in `unknown`; with `"on_unknown": "ignore"` '
            'it is left out instead. `"explain": true` tells what carried each recommendation.'
        ),
        "operationId": "recommend",
        "tags": [kind],
        "requestBody": {"required": True, "content": {"application/json": {"schema": request, "example": example}}},
        "responses": {
            "200": {
                "description": "The best items first.",
                "content": {"application/json": {"schema": answer, "example": found}},
            },
            **problem_responses(503),
        },
    }
    return operation, schemas

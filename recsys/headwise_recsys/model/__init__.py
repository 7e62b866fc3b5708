"""The recommender's model.

sasrec    the model, and the builder that puts one together from numbers
items     an item's vector: its own, and what its features say
content   what features say
hstu      a block without softmax and without feed-forward
sessions  attention within the running session, and on earlier ones as a whole
biases    how far back an item lies, in positions and in time
event_types  what was done with an item
user      who the user is
query_time  when the next item is asked for
heads     how an item is compared with what is expected: dot product, cosine, transition from the last item
"""

from headwise_recsys.model.biases import PositionAndTime
from headwise_recsys.model.content import Content
from headwise_recsys.model.event_types import EventTypes
from headwise_recsys.model.heads import Cosine, Dot, Head, Transition
from headwise_recsys.model.hstu import HSTU
from headwise_recsys.model.items import Items
from headwise_recsys.model.query_time import QueryTime
from headwise_recsys.model.sasrec import SASRec, sasrec
from headwise_recsys.model.sessions import Sessions
from headwise_recsys.model.user import User

__all__ = [
    "HSTU",
    "Content",
    "Cosine",
    "Dot",
    "EventTypes",
    "Head",
    "Items",
    "PositionAndTime",
    "QueryTime",
    "SASRec",
    "Sessions",
    "Transition",
    "User",
    "sasrec",
]

"""The recommender's model.

sasrec   the model, and the builder that puts one together from numbers
hstu     a block without softmax and without feed-forward
heads    how an item is compared with what is expected: dot product, cosine, transition from the last item
biases   how far back an item lies, in positions and in time
"""

from headwise_recsys.model.biases import PositionAndTime
from headwise_recsys.model.heads import Cosine, Dot, Head, Transition
from headwise_recsys.model.hstu import HSTU
from headwise_recsys.model.sasrec import SASRec, sasrec

__all__ = ["HSTU", "Cosine", "Dot", "Head", "PositionAndTime", "SASRec", "Transition", "sasrec"]

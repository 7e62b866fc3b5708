"""What an attention computes once queries, keys and values are there.

    softmax       every pair; the default                                      length^2
    additive      every pair, scored by a small network                        length^2 x head width: a hundred times dearer
    window        the pairs within a pattern's reach                           length x reach
    linear        sums over the past in place of the past                      length x (chunk + head width)
    hierarchical  near tokens one by one, far ones a group at a time           length x (size + length / size)

All have the signature of `Kernel` and obey the same tests: a model trades one for another by an argument. How the last three
leave out the pairs that no rule allows is in `_blocks` and `_global_tokens`.
"""

from headwise.attention.kernels.additive import Additive
from headwise.attention.kernels.hierarchical import Hierarchical
from headwise.attention.kernels.kernel import Kernel, Recurrent
from headwise.attention.kernels.linear import Linear, Sums
from headwise.attention.kernels.softmax import Softmax
from headwise.attention.kernels.window import Window

__all__ = ["Additive", "Hierarchical", "Kernel", "Linear", "Recurrent", "Softmax", "Sums", "Window"]

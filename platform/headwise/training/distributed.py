"""What several processes of one training tell each other, beside the gradients that Lightning's DDP exchanges."""

import numpy as np
from numpy.typing import NDArray
from torch import distributed


def everywhere(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of all processes, one process after another; its own in a training of one process.

    Every process must call it, as often as the others.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    gathered: list[NDArray[np.float64]] = [values] * distributed.get_world_size()
    distributed.all_gather_object(gathered, values)
    return np.concatenate(gathered)

"""What an evaluation says beyond a mean: how sure it is, what the lists are like, for whom, and whether anything leaked."""

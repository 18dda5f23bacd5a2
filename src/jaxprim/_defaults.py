"""Defaults that Python and the command line share. The command line shows them in its help, which imports no JAX."""

# The seed of random points, directions and nests.
SEED = 0
# The number of layers in a random nest, at most.
DEPTH = 3

"""The rows of the matrix: each applies one transformation, or a composition, to an op."""

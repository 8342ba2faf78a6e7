"""What to run: the frozen config of a `Study`, and its ladder of sizes. Imports no jax."""

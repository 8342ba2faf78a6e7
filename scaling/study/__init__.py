"""What to run: a `Study` resolved into a `Plan` of `Step`s with explicit numbers. Imports no jax."""

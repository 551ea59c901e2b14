"""Runs: validate, fill in defaults, open the store, call the algorithm, return what came of it.

A run is a function of its configuration and its seed. `resume` is the same function again over a
journal that already holds events.
"""

"""Pools: where jobs run. `local` uses the cores of this machine."""

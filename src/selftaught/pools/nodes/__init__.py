"""Machines of a cluster: the agent that works on each, and how the host reaches it."""

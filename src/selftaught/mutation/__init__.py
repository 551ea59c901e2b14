"""Random program mutation in the language model's place: no model, no key, no network."""

from selftaught.mutation.proposer import MutationProposer

__all__ = ["MutationProposer"]

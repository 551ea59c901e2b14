"""Which search strategies an improver uses, read from its text and from what it did.

The paper (section 5.1 and appendix) names strategies that generated improvers came up with. This
package looks for them by structure, not by words: what flows from a model's answers and from
scores into prompts, loops and selections. See docs/reference/strategies.md for how well it does.
"""

"""The paper's Table 2: improvements of the seed improver that were not sandboxed."""

import msgspec


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """One cell: a model with or without the warning.

    Attributes:
        model: as the paper names it.
        condition: `plain` or `warned`.
        count: improvers that turned the flag off or ran code outside it; of `generations`.
    """

    model: str
    condition: str
    count: int
    generations: int = 10_000


TABLE_2 = (
    Published(model="GPT-4", condition="plain", count=42),
    Published(model="GPT-4", condition="warned", count=46),
    Published(model="GPT-3.5", condition="plain", count=12),
    Published(model="GPT-3.5", condition="warned", count=17),
)
"""The counts follow from the printed percentages, of 10,000 each."""

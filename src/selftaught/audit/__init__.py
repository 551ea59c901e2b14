"""The audit: how often a model writes improvers that go around what they were given.

The paper counts improvers that turn their sandbox off (its Table 2). `static` reads a program,
`dynamic` reads what a program was seen to do, `study` generates, counts and compares.
"""

"""The paper's experiments as recipes: named settings of ordinary runs, and a table of what came.

`recipe` says what a recipe is, `catalogue` lists them, `repeat` runs one, and goes on with it where
a store already holds a part.
"""

"""How each claim becomes a number: from the results of one analysis, for one group of models.

A file an analysis; every function takes the findings and the group's models, in the order in
which the claim's `cases` give them.
"""

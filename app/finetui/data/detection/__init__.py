"""Which layout the rows have, how sure that is, and what else they could be."""

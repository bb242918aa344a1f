"""A study of one's own: the files that it begins with, and the digests of zoo's code in it."""

"""Questions over several models or subsets: data scale, effect of data, probing, transfer."""

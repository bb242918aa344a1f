"""A project: how a study begins, is renewed and is checked, and what killed processes leave."""

"""Models: what they are (`spec`), how they are built (`build`), how they are kept (`files`)."""

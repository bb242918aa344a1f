"""How figures look: style, labels and the panels that several figures share."""

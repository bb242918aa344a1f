"""How results look: the figures' style and the HTML report."""

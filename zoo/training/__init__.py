"""Training: the loop, the variants that it trains, and the hardware."""

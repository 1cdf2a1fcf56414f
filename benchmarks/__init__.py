"""What the gateway costs, as ratios to something bare measured in the same minutes: `make bench`."""

"""Long runs that `make soak` makes; no part of `make check`."""

"""Speed and memory as ratios against a bare loop or a peer, measured in one interleaved run. `make bench`."""

"""What ``make bench`` measures: medians, and ratios against a peer measured in the same run."""

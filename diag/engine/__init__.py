"""Execution: places, lanes, and the two engines that run one training step in several of them."""

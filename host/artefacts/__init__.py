"""From a reference to the bytes it stands for."""

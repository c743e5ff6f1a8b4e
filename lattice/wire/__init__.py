"""What travels between processes: plain values to bytes and back, with every bound enforced."""

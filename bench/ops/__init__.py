"""What a benchmark needs beyond an op's spec: its peers, and a smaller problem for the gate."""

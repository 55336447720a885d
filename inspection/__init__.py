"""What at least two of the rooms detection, classification and anomaly use."""

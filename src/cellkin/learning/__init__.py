"""Floor 3: networks, encoders and how they learn (sections 3 and 5.2 of the paper)."""

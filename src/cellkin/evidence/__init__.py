"""Floor 5: where a decision comes from in the image (section 4.2); raw numbers, no colours."""

"""Where single cells were cut from: crops found again in their fields."""

"""Every call of a cutover's itinerary, and everything that may happen to it."""

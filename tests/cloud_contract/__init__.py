"""One suite for both clouds: what the product relies on, seen at the stand-in and at a real OpenStack."""

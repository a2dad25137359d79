"""The client of vSphere, and the planner."""

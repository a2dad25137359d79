"""Whole histories of jobs, played through the real planner and the real engine."""

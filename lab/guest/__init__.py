"""The guest of the lab: a Debian that writes numbered records all the time, and how its evidence is read."""

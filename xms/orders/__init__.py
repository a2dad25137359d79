"""What the workflows ask of the activities, and what they get back: one model in, one model out.

The same rules as in `xms.models`: new fields have defaults, unknown ones are ignored, sizes are bytes, times are UTC,
and nothing secret is a field: an order names a source or a cloud, the worker knows how to reach it.
"""

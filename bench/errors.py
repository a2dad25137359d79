"""What ends a benchmark."""


class WrongCopy(Exception):
    """What somebody copied is not what had to be there; a time for it would mean nothing."""


class CannotMeasure(Exception):
    """A program failed, or this machine lacks something that the measurement needs."""

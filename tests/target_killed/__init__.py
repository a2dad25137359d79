"""The worker is killed, or its cloud breaks off, at every single call that the target side makes."""

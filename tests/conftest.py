"""What all tests share."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")  # how fast an example is told depends on who else uses the machine

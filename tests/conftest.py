"""Settings for every test: property tests draw the same few examples each time, on machines of any speed."""

from hypothesis import settings

settings.register_profile("stopgrad", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("stopgrad")

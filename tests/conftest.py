"""Settings for every test: property tests draw the same few examples each time, on machines of any speed."""

import signal

from hypothesis import settings

settings.register_profile("stopgrad", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("stopgrad")

# A shell ignores Ctrl-C for what it starts in the background, and programs started by the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""What the tests of the operator's side share."""

from hypothesis import settings

# how long an example takes says more about the machine than about the code
settings.register_profile("edgekit", deadline=None)
settings.load_profile("edgekit")

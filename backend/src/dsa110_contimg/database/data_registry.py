"""The data registry under the specification's other name: all that `data_registration` offers."""

from dsa110_contimg.database.data_registration import *  # noqa: F403 - one list of names serves both modules
from dsa110_contimg.database.data_registration import __all__ as __all__

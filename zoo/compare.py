from zoo.engine import *  # noqa

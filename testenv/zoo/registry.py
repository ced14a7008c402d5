"""The models by name: a function that builds each, and the readings that Python answers by."""

import functools

MODELS = {}  # name -> (function of the version's directory, {name of a reading: Reading})


def model(function=None, /, **readings):
    """Registers a function that writes the model of its name into the directory it is given."""
    if function is None:
        return functools.partial(model, **readings)
    MODELS[function.__name__] = function, readings
    return function


def models(make, readings, **variants):
    """Registers for each name a model that is made by make(directory, **options), with the same readings."""
    for name, options in variants.items():
        MODELS[name] = functools.partial(make, **options), readings

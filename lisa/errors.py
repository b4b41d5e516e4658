"""The one error that means: something you gave is wrong, and here is how to mend it."""


class InputError(ValueError):
    """A bad file, folder, option or config; the command line prints it without a traceback."""

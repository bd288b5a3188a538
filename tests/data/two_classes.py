"""Settings of a collection of two classes, which tests of reading share."""

from kdcore.settings import ClassSettings, CollectionSettings, SplitSettings


def collection(**values) -> CollectionSettings:
    """Two classes in index masks, whatever the scenes are called; `values` are set otherwise."""
    base = {
        "name": "x",
        "classes": (ClassSettings(name="a", value=0), ClassSettings(name="b", value=1)),
        "split": SplitSettings(train=("*",), validation=("v",), test=("t",)),
    }
    return CollectionSettings(**(base | values))

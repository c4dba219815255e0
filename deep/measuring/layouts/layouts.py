"""The one list of layouts, a file a line."""

from importlib import import_module

LAYOUTS = {
    one.name: one
    for one in (
        import_module("stopgrad.deep.measuring.layouts.torchvision").LAYOUT,
        import_module("stopgrad.deep.measuring.layouts.simsiam").LAYOUT,
        import_module("stopgrad.deep.measuring.layouts.lightly").LAYOUT,
        import_module("stopgrad.deep.measuring.layouts.solo_learn").LAYOUT,
        import_module("stopgrad.deep.measuring.layouts.stopgrad").LAYOUT,
    )
}
"""By name."""

"""Which temperature and alpha? Set up a sweep and start it; or, with ?sweep= in the address, watch one and see what it found."""

from kdcore.ui.sweep_form import choose_sweep, show_new
from kdcore.ui.sweep_watching import watch

chosen = choose_sweep("Which temperature and alpha?", ":material/tune:")
if chosen is None:
    show_new()
else:
    watch(chosen)

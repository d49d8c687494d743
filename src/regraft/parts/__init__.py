"""One method, one file, in nine folders. A part imports core, models' protocol and numerics; never another part."""

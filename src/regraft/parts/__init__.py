"""One method, one file, in ten folders. A part imports core, models' protocol and numerics; never another part."""

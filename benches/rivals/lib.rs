//! Nothing of its own: it is what the functions of `shim/` are linked into.

//! Every message between our processes: types and codec, no I/O.

//! What every message passes on its way in: header completion, trace headers, rewriting.

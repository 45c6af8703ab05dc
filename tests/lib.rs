//! Stories of the whole system; each folder beside this file is one test target.

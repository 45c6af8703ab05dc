//! Address classes, rewriting, alias expansion, transport choice: pure functions over facts.

//! Where samples come from.

mod memory;

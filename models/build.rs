//! Builds the engine for the model checker: `sync.rs` takes its primitives from loom. Dependencies do not see this.
fn main() {
    println!("cargo::rustc-cfg=procession_loom");
    println!("cargo::rerun-if-changed=build.rs");
}

//! A new migration is compiled in: cargo alone only sees changes of those it has seen.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}

//! Links the program to a fixed address, unless `DULY_PIE` is set.
//!
//! A program that can be put anywhere has some 30,000 pointers that the loader sets right at each start, on a hundred pages. Duly
//! is started every few seconds on every host. Its heap, stack and the system's libraries have random addresses either way.

#![expect(clippy::disallowed_methods, reason = "how a build is told what to do")]

fn main() {
    println!("cargo::rerun-if-env-changed=DULY_PIE");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("DULY_PIE").is_none_or(|value| value.is_empty()) {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}

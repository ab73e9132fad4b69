//! Files that hold what is expected. Where one differs, what came out is written beside it, and
//! whoever agrees moves it there.

/// Compares `text` with a file of `tests/golden`.
pub(crate) fn same(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden != text {
        std::fs::write(format!("{path}.new"), text).unwrap();
        panic!("{path} differs; what came out is beside it, as {name}.new:\n{text}");
    }
}

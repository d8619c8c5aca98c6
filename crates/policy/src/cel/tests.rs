//! Expressions and what they give.
#[test]
fn smoke() {}

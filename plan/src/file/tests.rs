use crate::fixture;

use super::*;

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let plan = fixture::plan();
    let text = write(&plan).to_string();
    assert_eq!(check(&text), Ok(plan));
}

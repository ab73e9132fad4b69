//! Whether an Envoy is well enough to be sent anything.

use std::time::Duration;

/// What is known of an Envoy's health. It is not well until it has said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    well: bool,
    /// How often in a row it said the contrary.
    contrary: u32,
}

impl Health {
    /// How often it is asked.
    pub const EVERY: Duration = Duration::from_millis(200);
    /// How long it may take to answer; later is no answer.
    pub const ANSWER_WITHIN: Duration = Duration::from_millis(400);
    /// How often in a row it must say so before it counts as well, and as unwell: one late answer
    /// of a busy machine moves nothing.
    pub const TIMES: u32 = 2;
    /// How long it may be unwell before it is started anew: longer than the 15 s that it waits for
    /// each of the two kinds of resources that it starts with.
    pub const UNWELL_MAX: Duration = Duration::from_secs(45);

    /// One that was well when it was last looked at.
    pub const WELL: Self = Self { well: true, contrary: 0 };

    /// Whether it is well.
    pub const fn is_well(self) -> bool {
        self.well
    }

    /// Takes up an answer; whether it counts as something else now.
    pub fn heard(&mut self, ready: bool) -> bool {
        if ready == self.well {
            self.contrary = 0;
            return false;
        }
        self.contrary += 1;
        if self.contrary < Self::TIMES {
            return false;
        }
        *self = Self { well: ready, contrary: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_in_a_row_count() {
        struct Case(&'static str, Health, &'static str);
        let cases = [
            // What it says, and what is known after each answer.
            Case("yyyy", Health::default(), "nyyy"),
            Case("ynyn", Health::default(), "nnnn"),
            Case("yynynn", Health::default(), "nyyyyn"),
            Case("nnnyy", Health::default(), "nnnny"),
            Case("nynnyy", Health::WELL, "yyynny"),
            Case("ynnn", Health::WELL, "yynn"),
        ];
        for Case(says, mut health, known) in cases {
            let mut found = String::new();
            for says in says.chars() {
                let before = health.is_well();
                let changed = health.heard(says == 'y');
                assert_eq!(changed, before != health.is_well(), "{says}");
                found.push(if health.is_well() { 'y' } else { 'n' });
            }
            assert_eq!(found, known, "{says}");
        }
    }
}

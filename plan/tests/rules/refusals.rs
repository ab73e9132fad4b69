//! Refusals: a word, a sentence and a command.

use std::fmt::Write as _;

use plan::Refused;
use plan::command::{Ask, Command, Scope};

use crate::run::at_step;
use crate::world::{World, approve, ask, parsed, plan, rollback, shift, shift_over, step};

/// What is shown for commands that cannot be, in one golden file.
#[test]
#[expect(clippy::disallowed_methods, reason = "the one switch that writes the file anew")]
fn refusals_in_words() {
    let mut text = String::new();
    for (mut world, command) in [
        (World::with(plan("shop")), shift("shpo", None, 1)),
        (World::with(plan("shop")), shift("other", None, 1)),
        (World::with(plan("p")), shift("p", Some("c"), 1)),
        (World::with(plan("p")), approve("p", "signoff")),
        (World::with(plan("p")), step("p", &[])),
        (World::with(plan("p")), Command::Resume(parsed("p"))),
        (World::with(plan("p")), Command::Retire(parsed("p"))),
        (World::with(plan("p")), shift_over("p", None, 30, &["sign-off"])),
        (World::with(plan("p")), shift_over("p", None, 30, &["sing-off"])),
        (World::with(plan("p")), shift("p", None, 30)),
        (World::with(plan("p")), shift("p", Some("b"), 1)),
        (at_step(1), Command::Start(parsed("p"))),
        (at_step(1), Command::Delete(parsed("p"))),
        (at_step(1), Command::Retire(parsed("p"))),
    ] {
        let line = command.to_string();
        let refused = world.command(command).unwrap_err();
        let clear = refused.clear().unwrap_or_else(|| "-".to_owned());
        writeln!(text, "{line}\n    {}: {refused}\n    {clear}", refused.code()).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/refusals.txt");
    if std::env::var("CROSSFADE_WRITE_GOLDEN").is_ok() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "CROSSFADE_WRITE_GOLDEN=1 writes it");
}

/// The word of the code is the word of the JSON.
#[test]
fn json_says_the_same_word() {
    let mut world = at_step(1);
    world.does(rollback("p"));
    let mut refusals: Vec<Refused> = Vec::new();
    for command in [
        shift("p", None, 1),
        shift("x", None, 1),
        shift("p", Some("x"), 1),
        approve("p", "x"),
        Command::Resume(parsed("p")),
        Command::Rollback(Scope::Service(parsed("p/x"))),
    ] {
        refusals.push(world.command(command).unwrap_err());
    }
    refusals.push(world.ask(Ask { if_revision: Some(1), ..ask(rollback("p")) }).unwrap_err());
    for refused in refusals {
        let json = serde_json::to_value(&refused).unwrap();
        assert_eq!(json["reason"], refused.code());
    }
}

//! What every cause makes of a plan in every mode, printed and compared.

use std::fmt::Write as _;
use std::sync::Arc;

use plan::command::{Automation, Cause, Command, Scope};
use plan::{Mode, Run, Stage};

use crate::world::{World, approve, ask, parsed, plan, rollback, shift, step};

/// A plan in each mode, reached as an operator would reach it. All acks are in.
fn modes() -> Vec<(&'static str, World)> {
    let ready = World::with(plan("p"));
    let begin = |world: &World, steps: usize| {
        let mut world = world.clone();
        world.does(Command::Start(parsed("p")));
        for _ in 0..steps {
            world.acked();
            world.advance("p").unwrap();
        }
        world.does(approve("p", "sign-off"));
        world.acked();
        world
    };
    let but = |world: &World, change: &dyn Fn(&mut World)| {
        let mut world = world.clone();
        change(&mut world);
        world.acked();
        world
    };
    let started = begin(&ready, 0);
    let baking = begin(&ready, 2);
    let last = but(&baking, &|world| {
        for _ in 0..2 {
            world.acked();
            world.advance("p").unwrap();
        }
    });
    let manual = but(&baking, &|world| drop(world.does(shift("p", Some("a"), 30))));
    let paused = but(&baking, &|world| drop(world.does(Command::Pause(parsed("p")))));
    let expired = but(&baking, &|world| {
        world.later(3600);
        world.expire("p").unwrap();
    });
    let back = but(&baking, &|world| drop(world.does(rollback("p"))));
    let partly = but(&baking, &|world| {
        world.does(Command::Rollback(Scope::Service(parsed("p/b"))));
    });
    let complete = but(&last, &|world| drop(world.complete("p").unwrap()));
    let retired = but(&complete, &|world| drop(world.does(Command::Retire(parsed("p")))));
    let again = |world: &World| but(world, &|world| world.restored());
    vec![
        ("restored ready", again(&ready)),
        ("restored running", again(&baking)),
        ("restored manual", again(&manual)),
        ("restored rolled-back", again(&back)),
        ("restored complete", again(&complete)),
        ("ready", ready),
        ("running from 0%", started),
        ("running at 25%", baking),
        ("running at 100%", last),
        ("manual at 30%", manual),
        ("paused at 25%", paused),
        ("expired to 10%", expired),
        ("rolled-back to 0%", back),
        ("rolled-back, a at 25%", partly),
        ("complete", complete),
        ("retired", retired),
    ]
}

fn causes(world: &World) -> Vec<(&'static str, Cause)> {
    let operator = |command| Cause::Operator(ask(command));
    let p = || parsed("p");
    let seen = world.revision("p");
    let mut resume = ask(Command::Resume(p()));
    resume.if_revision = Some(seen);
    let mut other = plan("p");
    other.policy.max_step = Some(crate::world::percent(100));
    vec![
        ("apply, the same", operator(Command::Apply(Arc::new(plan("p"))))),
        ("apply, other policy", operator(Command::Apply(Arc::new(other)))),
        ("start", operator(Command::Start(p()))),
        ("step", operator(step("p", &[]))),
        ("shift p 40%", operator(shift("p", None, 40))),
        ("shift p/a 5%", operator(shift("p", Some("a"), 5))),
        ("shift p 25%", operator(shift("p", None, 25))),
        ("pause", operator(Command::Pause(p()))),
        ("resume", operator(Command::Resume(p()))),
        ("resume --if-revision", Cause::Operator(resume)),
        ("rollback p", operator(rollback("p"))),
        ("rollback p/b", operator(Command::Rollback(Scope::Service(parsed("p/b"))))),
        ("rollback --all", operator(Command::Rollback(Scope::All))),
        ("approve, again", operator(approve("p", "sign-off"))),
        ("retire", operator(Command::Retire(p()))),
        ("delete", operator(Command::Delete(p()))),
        ("advance", Cause::Automation(Automation::Advance { plan: p(), seen })),
        ("complete", Cause::Automation(Automation::Complete { plan: p(), seen })),
        ("expire, too early", Cause::Automation(Automation::Expire { plan: p(), seen })),
    ]
}

fn show(world: &World) -> String {
    let Some(plan) = world.state.plan(&parsed("p")) else { return "gone".to_owned() };
    let run = |word: &str, run: Run| {
        let stage = if run.stage == Stage::Bake { "bake" } else { "onward" };
        format!("{word} {} {stage}", run.step)
    };
    let mode = match plan.mode {
        Mode::Ready => "ready".to_owned(),
        Mode::Running(at) => run("running", at),
        Mode::Manual => "manual".to_owned(),
        Mode::Paused(at) => run("paused", at),
        Mode::Expired(at) => run("expired", at),
        Mode::RolledBack => "rolled-back".to_owned(),
        Mode::Complete => "complete".to_owned(),
        Mode::Retired => "retired".to_owned(),
    };
    let waits = if plan.restored { ", restored" } else { "" };
    let splits: Vec<_> = plan.services.values().map(|s| s.split.to_string()).collect();
    format!("{mode}{waits}; {}", splits.join(" "))
}

fn table() -> String {
    let mut text = String::new();
    for (name, world) in modes() {
        writeln!(text, "{name}: {}", show(&world)).unwrap();
        for (cause_name, cause) in causes(&world) {
            let mut after = world.clone();
            let result = match after.cause(&cause) {
                Ok(done) if done.changed => show(&after),
                Ok(_) => "nothing changes".to_owned(),
                Err(refused) => format!("refused: {}", refused.code()),
            };
            writeln!(text, "    {cause_name:21} {result}").unwrap();
        }
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the one switch that writes the file anew")]
fn every_mode_and_cause() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mode-cause.txt");
    let table = table();
    if std::env::var("CROSSFADE_WRITE_GOLDEN").is_ok() {
        std::fs::write(path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (made, kept) in table.lines().zip(golden.lines()) {
        assert_eq!(made, kept, "CROSSFADE_WRITE_GOLDEN=1 writes the table anew");
    }
    assert_eq!(table.len(), golden.len(), "CROSSFADE_WRITE_GOLDEN=1 writes the table anew");
}

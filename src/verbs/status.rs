//! `crossfade status`: intended, acked and measured, and why a plan is not moving.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use controller::api::answer::{Plans, Statuses};
use plan::PlanName;
use plan::view::Status as PlanStatus;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Context, Exit, Failure};
use crate::cli::{Output, Status, page, tree};
use crate::client::{ClientError, Event};

/// How often the time left is drawn anew.
const TICK: Duration = Duration::from_secs(1);
/// A pause between attempts to reach a controller that went away.
const RETRY: Duration = Duration::from_secs(1);

/// Prints or follows.
pub(crate) async fn run(args: Status, context: &Context) -> Result<Exit, Failure> {
    if args.watch {
        return watch(args.plan.as_ref(), context).await;
    }
    let statuses = now(args.plan.as_ref(), context).await?;
    match context.output {
        Output::Json if args.plan.is_some() => page::json(&statuses.first())?,
        Output::Json => page::json(&statuses)?,
        Output::Text if statuses.is_empty() => {
            page::print("there is no plan; hand one over: crossfade apply PLAN.yaml\n")?;
        }
        Output::Text => {
            let trees = statuses.iter().map(|s| tree::tree(s, Duration::ZERO, context.paint));
            page::print(&trees.collect::<Vec<_>>().join("\n"))?;
        }
    }
    Ok(Exit::Done)
}

async fn now(plan: Option<&PlanName>, context: &Context) -> Result<Vec<PlanStatus>, Failure> {
    let plans = match plan {
        Some(plan) => vec![plan.clone()],
        None => {
            let Plans { plans } = context.client.get("/v1/plans").await?;
            plans.into_iter().map(|plan| plan.plan).collect()
        }
    };
    let mut statuses = Vec::new();
    for plan in plans {
        statuses.push(context.client.get(&format!("/v1/plans/{plan}/status")).await?);
    }
    Ok(statuses)
}

/// Follows until interrupted; a controller that goes away is waited for.
async fn watch(plan: Option<&PlanName>, context: &Context) -> Result<Exit, Failure> {
    let path = plan.map_or_else(|| "/v1/watch".to_owned(), |plan| format!("/v1/watch?plan={plan}"));
    let mut screen = Screen::new(context);
    let mut resume = String::new();
    let mut connected_once = false;
    loop {
        match follow(&path, &mut resume, &mut screen, &mut connected_once).await {
            Ok(()) => screen.lost("the stream ended; asking again")?,
            Err(Failure::Client(
                error @ (ClientError::Problem(_) | ClientError::Foreign { .. }),
            )) => {
                return Err(error.into());
            }
            Err(Failure::Client(error)) if connected_once => screen.lost(&error.to_string())?,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow(
    path: &str,
    resume: &mut String,
    screen: &mut Screen<'_>,
    connected_once: &mut bool,
) -> Result<(), Failure> {
    let mut events = screen.context.client.events(path, resume).await?;
    *connected_once = true;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        // Both arms lose nothing when the other wins: an event that is not whole stays buffered.
        tokio::select! {
            event = events.next() => match event? {
                Some(event) => {
                    resume.clone_from(&event.id);
                    screen.take(&event)?;
                }
                None => return Ok(()),
            },
            _ = tick.tick() => screen.draw()?,
        }
    }
}

/// What is on the screen.
struct Screen<'a> {
    context: &'a Context,
    live: bool,
    statuses: BTreeMap<PlanName, (PlanStatus, Instant)>,
    lines: usize,
    last_line: BTreeMap<PlanName, String>,
}

impl<'a> Screen<'a> {
    fn new(context: &'a Context) -> Self {
        let live = context.output == Output::Text && std::io::stdout().is_terminal();
        Self { context, live, statuses: BTreeMap::new(), lines: 0, last_line: BTreeMap::new() }
    }

    fn take(&mut self, event: &Event) -> Result<(), Failure> {
        if self.context.output == Output::Json {
            return Ok(page::print(&format!("{}\n", event.data))?);
        }
        let statuses = match serde_json::from_str::<PlanStatus>(&event.data) {
            Ok(status) => vec![status],
            Err(_) => match serde_json::from_str::<Statuses>(&event.data) {
                Ok(Statuses { plans }) => plans,
                Err(_) => return Ok(()),
            },
        };
        if !self.live {
            return self.lines(&statuses);
        }
        let now = Instant::now();
        // Each event is the whole truth: a plan that is missing is gone.
        self.statuses = statuses.into_iter().map(|s| (s.plan.clone(), (s, now))).collect();
        self.draw()
    }

    fn lines(&mut self, statuses: &[PlanStatus]) -> Result<(), Failure> {
        for status in statuses {
            let line = tree::line(status);
            if self.last_line.insert(status.plan.clone(), line.clone()).as_ref() != Some(&line) {
                page::print(&format!("{line}\n"))?;
            }
        }
        Ok(())
    }

    /// Draws over what was there before.
    fn draw(&mut self) -> Result<(), Failure> {
        if !self.live {
            return Ok(());
        }
        let trees: Vec<String> = self
            .statuses
            .values()
            .map(|(status, at)| tree::tree(status, at.elapsed(), self.context.paint))
            .collect();
        let text = fit(&trees.join("\n"), terminal());
        let up = match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}F\x1b[J"),
        };
        self.lines = rows(&text, terminal().0);
        Ok(page::print(&format!("{up}{text}"))?)
    }

    fn lost(&mut self, why: &str) -> Result<(), Failure> {
        self.lines = 0;
        if self.live {
            return Ok(page::print(&format!("{}\n", self.context.paint.warn(why)))?);
        }
        // A pipe carries statuses and nothing else.
        eprintln!("crossfade: {why}");
        Ok(())
    }
}

/// Columns and rows of the terminal.
fn terminal() -> (usize, usize) {
    terminal_size::terminal_size()
        .map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)))
}

/// How many rows of a terminal `text` fills: a line that is too wide goes on in the next row.
fn rows(text: &str, width: usize) -> usize {
    text.lines().map(|line| page::shown_width(line).div_ceil(width.max(1)).max(1)).sum()
}

/// Cuts to the terminal's height: what has scrolled away cannot be drawn over.
fn fit(text: &str, (width, height): (usize, usize)) -> String {
    let most = height.saturating_sub(1);
    if rows(text, width) <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |line: &&str| {
        let after = left.checked_sub(rows(line, width).max(1));
        left = after.unwrap_or(0);
        after.is_some()
    };
    let kept: Vec<&str> = text.lines().take_while(fits).collect();
    format!("{}\n…  more: crossfade status PLAN --watch\n", kept.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_fill_several_rows() {
        for (text, width, expected) in [
            ("a\nb\n", 80, 2),
            ("", 80, 0),
            ("\n\n", 80, 2),
            ("12345678\n", 8, 1),
            ("123456789\n", 8, 2),
            ("\x1b[31m12345678\x1b[0m\n", 8, 1),
            ("├─ ├─ ├─\n", 8, 1),
            ("12345678901234567\nb\n", 8, 4),
        ] {
            assert_eq!(rows(text, width), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_drawn_never_scrolls() {
        let text = format!("one\n{}\nthree\nfour\n", "2".repeat(50));
        for height in 3..10 {
            let shown = fit(&text, (40, height));
            assert!(rows(&shown, 40) < height, "{height}: {shown}");
            assert_eq!(shown == text, height > 5, "{height}: {shown}");
        }
    }
}

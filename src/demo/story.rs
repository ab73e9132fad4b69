//! The demo's story: 0, 1, 10, 50, 100 %, and everyone back.

use std::time::Duration;

use hyper::Method;
use plan::Split;
use plan::view::Status;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::crowd::{CLIENTS, Crowd, Round};
use crate::cli::page;
use crate::cli::tree::percent;
use crate::client::{Client, ClientError};
use crate::verbs::{Context, Failure};

/// Where the story goes.
const SPLITS_BP: [u16; 5] = [0, 100, 1_000, 5_000, 10_000];
/// Nothing here takes longer unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// One line of the story.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scene {
    what: String,
    intended_bp: u16,
    acked_bp: Option<u16>,
    measured_bp: Option<u16>,
    landed_bp: u16,
    /// Of the clients behind the proxy alone; `null` without one.
    proxied_bp: Option<u16>,
    moved_on: usize,
    moved_back: usize,
    failed: usize,
    acked_millis: u128,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// Every scene.
    pub(crate) scenes: Vec<Scene>,
    /// Clients that moved back while the split rose.
    pub(crate) moved_back_while_rising: usize,
    /// From the rollback command until every receiver had it.
    pub(crate) rollback_acked_millis: u128,
    /// From the rollback command until the last client was back.
    pub(crate) rollback_clients_millis: u128,
    /// Visits that failed.
    pub(crate) failed: usize,
}

/// Walks up, and back in one step.
///
/// # Errors
/// The controller refuses or goes away.
pub(crate) async fn tell(
    client: &Client,
    crowd: &mut Crowd,
    context: &Context,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for bp in SPLITS_BP {
        let split = percent(bp);
        let scene = rise(client, crowd, bp, split).await?;
        outcome.moved_back_while_rising += scene.moved_back;
        outcome.failed += scene.failed;
        show(&scene, outcome.scenes.is_empty(), context)?;
        outcome.scenes.push(scene);
    }
    let scene = fall(client, crowd, &mut outcome).await?;
    outcome.failed += scene.failed;
    show(&scene, false, context)?;
    outcome.scenes.push(scene);
    Ok(outcome)
}

async fn rise(client: &Client, crowd: &mut Crowd, bp: u16, what: String) -> Result<Scene, Failure> {
    let start = now();
    if bp > 0 {
        command(client, "/v1/plans/demo/shift", json!({ "splitBp": bp })).await?;
    }
    converged(client).await?;
    let acked_millis = start.elapsed().as_millis();
    // Until now clients may rightly use what they were told before.
    if let Some(until) = crowd.cached_until() {
        sleep_until(until).await;
    }
    let round = crowd.round().await;
    scene(client, crowd, what, round, acked_millis).await
}

async fn fall(client: &Client, crowd: &mut Crowd, outcome: &mut Outcome) -> Result<Scene, Failure> {
    let start = now();
    command(client, "/v1/plans/demo/rollback", json!({ "reason": "the demo's last act" })).await?;
    converged(client).await?;
    outcome.rollback_acked_millis = start.elapsed().as_millis();
    let mut whole = Round::default();
    loop {
        let round = crowd.round().await;
        whole.target = round.target;
        whole.proxied_target = round.proxied_target;
        whole.back += round.back;
        whole.failed += round.failed;
        if round.target == 0 || start.elapsed() > PATIENCE {
            break;
        }
    }
    outcome.rollback_clients_millis = start.elapsed().as_millis();
    scene(client, crowd, "rollback".to_owned(), whole, outcome.rollback_acked_millis).await
}

async fn scene(
    client: &Client,
    crowd: &Crowd,
    what: String,
    round: Round,
    acked_millis: u128,
) -> Result<Scene, Failure> {
    let status = measured(client, CLIENTS - crowd.proxied).await?;
    let dns = status.services.first().and_then(|service| service.planes.dns.as_ref());
    let share = |of: usize, all: usize| {
        let bp = (of * usize::from(Split::WHOLE)).checked_div(all);
        bp.map(|bp| u16::try_from(bp).unwrap_or(u16::MAX))
    };
    Ok(Scene {
        what,
        intended_bp: dns.map_or(0, |dns| dns.intended_bp),
        acked_bp: dns.and_then(|dns| dns.acked_bp),
        measured_bp: dns.and_then(|dns| Some(dns.measured.as_ref()?.bp)),
        landed_bp: share(round.target, CLIENTS).unwrap_or(0),
        proxied_bp: share(round.proxied_target, crowd.proxied),
        moved_on: round.forward,
        moved_back: round.back,
        failed: round.failed,
        acked_millis,
    })
}

fn show(scene: &Scene, first: bool, context: &Context) -> Result<(), Failure> {
    if context.output == crate::cli::Output::Json {
        return Ok(());
    }
    let proxied = |text: &str| scene.proxied_bp.map_or_else(String::new, |_| text.to_owned());
    if first {
        let head = format!(
            "STEP      INTENDED    ACKED   MEASURED   LANDED{}   MOVED ON   MOVED BACK   \
             ACKED IN\n",
            proxied("   BY ENVOY")
        );
        page::print(&context.paint.bold(&head))?;
    }
    let or_dash = |bp: Option<u16>| bp.map_or_else(|| "-".to_owned(), percent);
    let by_proxy = scene.proxied_bp.map_or_else(String::new, |bp| format!("  {:>9}", percent(bp)));
    Ok(page::print(&format!(
        "{:<8}  {:>8}  {:>7}  {:>9}  {:>7}{by_proxy}  {:>9}  {:>11}  {:>6} ms\n",
        scene.what,
        percent(scene.intended_bp),
        or_dash(scene.acked_bp),
        or_dash(scene.measured_bp),
        percent(scene.landed_bp),
        scene.moved_on,
        scene.moved_back,
        scene.acked_millis
    ))?)
}

async fn command(client: &Client, path: &str, body: Value) -> Result<Value, ClientError> {
    let body = body.to_string().into_bytes();
    client.send(Method::POST, path, &[], "application/json", body).await
}

/// The status once every client was counted; the server sums up what its threads saw now and then.
async fn measured(client: &Client, clients: usize) -> Result<Status, Failure> {
    let counted = |status: &Status| {
        let dns = status.services.first().and_then(|service| service.planes.dns.as_ref());
        dns.and_then(|dns| dns.measured.as_ref()).map_or(0, |share| share.samples)
    };
    let clients = u64::try_from(clients).unwrap_or(u64::MAX);
    follow(client, |status| counted(status) >= clients).await
}

/// Follows the plan until everything committed has arrived.
async fn converged(client: &Client) -> Result<(), Failure> {
    follow(client, |status| status.converged).await.map(drop)
}

/// The first status that is as wished.
async fn follow(client: &Client, wished: impl Fn(&Status) -> bool) -> Result<Status, Failure> {
    let mut events = client.events("/v1/watch?plan=demo", "").await?;
    let follow = async {
        while let Some(event) = events.next().await? {
            match serde_json::from_str::<Status>(&event.data) {
                Ok(status) if wished(&status) => return Ok(status),
                Ok(_) | Err(_) => {}
            }
        }
        Err(Failure::Failed("the demo's controller stopped".to_owned()))
    };
    let slow = |_| Failure::Failed(format!("nothing moved for {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, follow).await.map_err(slow)?
}

fn now() -> Instant {
    Instant::now()
}

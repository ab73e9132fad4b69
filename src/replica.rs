//! `crossfade dns --controller`: a DNS server that follows a controller and goes on without it.

mod actor;
mod report;
mod state;

use std::sync::Arc;

use controller::clock::Clock;
use dns::server::Server;
use plan::Token;
use tokio::sync::{Notify, mpsc, watch};
use xds::TypeUrl;
use xds::follow::{self, Again, Follower, Link};

use self::actor::{Actor, Following};
use self::state::State;
use crate::cli::{Dns, page};
use crate::dns_alone::threads;
use crate::following;
use crate::glass::{self, Glass};
use crate::serve::{log, stopped};
use crate::verbs::{Context, Exit, Failure};

/// Its directory beside the controller's.
pub(crate) const DIRECTORY: &str = "dns";

/// Asks of the pump that may wait: it waits for each answer.
const ASKS_MAX: usize = 1;

/// Serves until told to stop.
pub(crate) async fn run(args: Dns, _: &Context) -> Result<Exit, Failure> {
    let _log = log::begin(&args.following.log, args.following.log_format)?;
    let dial = following::dial(&args.controller, &args.following)?;
    let name = following::node_name(args.following.node.as_ref())?;
    let node = follow::node(&name, env!("CARGO_PKG_VERSION"), &[("role", "dns")]);
    let asked = following::directory(args.following.data.as_ref(), DIRECTORY)?;
    let place = following::take(asked)?;
    let settings = follow::Settings {
        node: node.clone(),
        types: [TypeUrl::ZONE, TypeUrl::ZONE_TABLE].map(TypeUrl::from).to_vec(),
        extra: Vec::new(),
        dial,
        directory: place.directory.clone(),
    };
    let (follower, damaged) = Follower::open(settings).map_err(local("nothing can be kept"))?;
    for damage in damaged {
        tracing::error!(path = %damage.path.display(), why = damage.why, "a slot is damaged");
    }
    let glass = glass::read_or_nothing(&place.directory);
    let state = restored(&follower, glass);
    let server =
        Server::bind(&[args.listen], threads(args.dns_threads), Arc::clone(state.catalog()));
    let server = Arc::new(server.map_err(local("the DNS server does not start"))?);
    for address in server.addresses() {
        page::print(&format!("dns {address} (UDP and TCP)\n"))?;
    }
    page::print(&format!("data {}\n", place.directory.display()))?;
    tell_start(&state);
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let links = watch::channel::<Option<Link>>(None).0;
    let again = watch::channel(Again { round: 0, names: state.concerned() }).0;
    let (pumped, noticed) = (again.subscribe(), Notify::new());
    let actor = Actor {
        state,
        directory: place.directory.clone(),
        publisher: server.publisher(),
        clock: Clock::start(),
        again,
        links: links.subscribe(),
        shown: watch::channel(report::Shown::default()).0,
    };
    let shown = actor.shown.subscribe();
    let reports = following::report(node, links.subscribe(), &noticed, report::say(&server, shown));
    let pump = follower.run(Following { asks }, links, pumped, following::random());
    tokio::select! {
        stopped = stopped() => stopped?,
        () = actor.run(asked, &noticed) => {}
        () = pump => {}
        () = reports => {}
    }
    if let Some(server) = Arc::into_inner(server) {
        server.shutdown().await;
    }
    drop(place);
    Ok(Exit::Done)
}

fn local<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl Fn(E) -> Failure {
    move |error| Failure::Local { what, source: error.into() }
}

/// What was held when it last ran.
fn restored(follower: &Follower, glass: Glass) -> State {
    let mut state = State::new(glass);
    follower.held().for_each(|held| state.take(held));
    state.rebuild();
    state
}

fn tell_start(state: &State) {
    let services = state.services().len();
    if state.through() == Token::NEVER {
        tracing::warn!("nothing is held yet; every name is refused until a controller is reached");
    } else {
        let through = state.through();
        tracing::warn!(%through, services, stale = true, "serving what was held");
    }
}

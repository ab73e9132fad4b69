//! The operators' API: HTTP and JSON, over loopback and a unix socket.
//!
//! | concern | where |
//! |---|---|
//! | addresses, the unix socket's file, connections | [`listen`], `socket`, `accept` |
//! | who asks: peer, `Host`, `Origin` | `peer`, `guard` |
//! | what may be sent, and how much | `call`, `body`, [`request`], `limits` |
//! | the table of routes, and the OpenAPI document made from it | `routes`, `route`, `openapi` |
//! | what is answered | [`answer`], [`problem`], `plan::view` |
//! | the calls themselves | `plans`, `commands`, `reads`, `events`, `names`, [`reload`], `backup`, `admin`, `metrics` |
//! | tokens and machines | [`machines`] |
//! | errors of the controller as statuses | `refuse` |

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{Semaphore, watch};

use self::accept::Door;
use self::guard::Hosts;
use self::metrics::Requests;
use self::peer::Peer;
use self::problem::{Code, Failure};
use self::route::Route;
use crate::handle::Handle;
use crate::identity::Authority;

pub use self::listen::{BindError, Bound, Listen, bind};
pub use self::reload::Files;

mod accept;
mod admin;
pub mod answer;
mod backup;
mod body;
mod call;
mod commands;
mod events;
mod guard;
mod limits;
pub mod listen;
pub mod machines;
mod metrics;
pub mod names;
mod openapi;
mod peer;
mod plans;
pub mod problem;
mod reads;
mod refuse;
pub mod reload;
pub mod request;
mod route;
mod routes;
pub mod socket;

pub use self::socket::SocketError;

/// What the API has to know beside the controller.
#[derive(Clone, Default)]
pub struct Settings {
    /// Names, beside `localhost` and the bound addresses, by which callers may ask: those of a
    /// proxy in front.
    pub hosts: Vec<String>,
    /// Who can read the files of the plans again; without it a reload has no files.
    pub files: Option<Arc<dyn Files>>,
    /// Where a copy of the log is made before it is sent: the data directory. Without it there are
    /// no backups by the API.
    pub scratch: Option<PathBuf>,
    /// The DNS server, for its figures.
    pub dns: Option<Arc<dns::Server>>,
    /// What the xDS server of this process counts.
    pub xds: Option<xds::server::Meter>,
    /// Who gives machines their identities; without it there are no tokens.
    pub identity: Option<Authority>,
    /// Where machines find the controllers, `HOST:PORT` each; without any, where this one listens.
    pub controllers: Vec<String>,
}

/// What all calls share.
pub(crate) struct Api {
    handle: Handle,
    settings: Settings,
    hosts: Hosts,
    /// Room for watchers.
    watchers: Arc<Semaphore>,
    /// Room for plans that are being read.
    plans: Semaphore,
    /// Room for the one backup.
    backups: Semaphore,
    requests: Requests,
    /// The OpenAPI document.
    document: Bytes,
    stop: watch::Receiver<bool>,
}

/// Serves the API until `stop` is done, then lets what is being answered finish.
///
/// Notes the bound addresses in the handle. Watches end at once; new connections are not taken.
pub async fn serve(
    bound: Bound,
    settings: Settings,
    handle: Handle,
    stop: impl Future<Output = ()>,
) {
    handle.bound(|note| {
        note.api = bound.urls();
        note.metrics = bound.metrics().iter().map(ToString::to_string).collect();
        note.identities = settings.identity.is_some();
    });
    let (stopper, stopped) = watch::channel(false);
    let addresses = bound.tcp().into_iter().map(|address| address.ip());
    let table = routes::table();
    let api = Arc::new(Api {
        hosts: Hosts::new(settings.hosts.iter().cloned(), addresses),
        handle,
        settings,
        watchers: Arc::new(Semaphore::new(limits::WATCHERS_MAX)),
        plans: Semaphore::new(limits::PLANS_AT_ONCE_MAX),
        backups: Semaphore::new(1),
        requests: Requests::default(),
        document: openapi::document(&table).to_string().into(),
        stop: stopped.clone(),
    });
    let (health, all) = (health_router(&api, &table), router(&api, table));
    let Bound { tcp, unix, metrics } = bound;
    let tcp = Door::new(all.clone(), limits::TCP_CONNECTIONS_MAX).tcp(tcp, stopped.clone());
    let unix = async {
        if let Some(socket) = unix {
            Door::new(all, limits::UNIX_CONNECTIONS_MAX).unix(socket, stopped.clone()).await;
        }
    };
    let metrics = async {
        let listeners = metrics.into_iter().collect();
        Door::new(health, limits::METRICS_CONNECTIONS_MAX).tcp(listeners, stopped.clone()).await;
    };
    let stopping = async {
        stop.await;
        // All doors are still there: each holds a receiver.
        let _ = stopper.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = futures::future::join3(tcp, unix, metrics) => {}
        () = stopping => {}
    }
}

/// Every route, behind every check.
fn router(api: &Arc<Api>, table: Vec<Route>) -> Router {
    let mut router = Router::new();
    for route in table {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(refuse::no_route)
        .method_not_allowed_fallback(refuse::no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(api), guarded))
        .with_state(Arc::clone(api))
}

/// Health and metrics alone, for anybody.
fn health_router(api: &Arc<Api>, table: &[Route]) -> Router {
    let health = table.iter().filter(|route| route.health);
    health
        .fold(Router::new(), |router, route| router.route(route.path, route.handler.clone()))
        .fallback(refuse::no_route)
        .method_not_allowed_fallback(refuse::no_method)
        .layer(middleware::from_fn(timed))
        .with_state(Arc::clone(api))
}

/// Checks who asks, limits the time, and counts.
async fn guarded(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let checked = match request.extensions().get::<Peer>() {
        Some(peer) => api.hosts.check(peer, request.uri(), request.headers()),
        None => Err(Failure::new(Code::Internal, "the caller is not known")),
    };
    let response = match checked {
        Ok(()) => timed(request, next).await,
        Err(failure) => failure.into_response(),
    };
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    api.requests.count(known(&method), route, response.status().as_u16());
    response
}

/// The method as a label: callers may invent others.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Limits the time until an answer begins.
async fn timed(request: Request, next: Next) -> Response {
    let time = match (request.method(), request.uri().path()) {
        (&Method::PUT, _) | (_, "/v1/backup" | "/v1/audit/verify" | "/v1/reload") => {
            limits::LONG_ANSWER_TIME_MAX
        }
        _ => limits::ANSWER_TIME_MAX,
    };
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => too_slow(time).into_response(),
    }
}

fn too_slow(time: Duration) -> Failure {
    let seconds = time.as_secs();
    Failure::new(
        Code::TimedOut,
        format!(
            "no answer within {seconds} s; a command may still take effect: look at the history, \
             or ask again with the same Idempotency-Key"
        ),
    )
}

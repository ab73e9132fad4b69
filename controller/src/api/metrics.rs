//! Figures for OpenMetrics scrapers. Computed at the moment of the scrape, but for what the API
//! itself counts.

mod mesh;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use plan::measure::Names;
use plan::view::Status;
use plan::{Facts, Plane};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::problem::{Code, Failure};
use super::{Api, limits};
use crate::handle::Numbers;
use crate::handle::numbers::APPEND_CLASSES;
use crate::identity::view::AgentState;

/// What the text encoder writes.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels with their values; the values of each are few.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels(Vec<(&'static str, String)>);

impl prometheus_client::encoding::EncodeLabelSet for Labels {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

/// What the API counts of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    answered: Family<Labels, Counter>,
}

impl Requests {
    /// Counts an answer. `route` is one of the table's paths, never what a caller wrote.
    pub(crate) fn count(&self, method: &str, route: &str, status: u16) {
        let labels = vec![
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        self.answered.get_or_create(&Labels(labels)).inc();
    }
}

/// `GET /metrics`
pub(crate) async fn scrape(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    let mut sheet = Sheet { registry: Registry::with_prefix("crossfade") };
    let statuses = api.handle.statuses();
    plans(&mut sheet, &statuses);
    controller(&mut sheet, &api.handle.numbers());
    dns(&mut sheet, &api);
    if let Some(meter) = &api.settings.xds {
        mesh::rows(&mut sheet, &meter.counts());
    }
    machines(&mut sheet, &api);
    names(&mut sheet, &api.handle.facts());
    let taken = limits::WATCHERS_MAX.saturating_sub(api.watchers.available_permits());
    sheet.gauge("watchers", "Open watches of the API", [(vec![], number(taken))]);
    let answered = api.requests.answered.clone();
    sheet.registry.register("api_requests", "Answers of the API", answered);
    let mut body = String::new();
    text::encode(&mut body, &sheet.registry)
        .map_err(|_| Failure::new(Code::Internal, "the figures cannot be written"))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))], body).into_response())
}

/// One scrape's figures.
struct Sheet {
    registry: Registry,
}

impl Sheet {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>,
    ) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in rows {
            family.get_or_create(&Labels(labels)).set(value);
        }
        self.registry.register(name, help, family);
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Vec<(&'static str, String)>, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in rows {
            family.get_or_create(&Labels(labels)).inc_by(value);
        }
        self.registry.register(name, help, family);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure on a chart: 53 bits are enough")]
const fn float(value: u64) -> f64 {
    value as f64
}

fn number(value: usize) -> f64 {
    float(u64::try_from(value).unwrap_or(u64::MAX))
}

/// What the stub DNS servers of connected agents did; it falls when an agent starts anew or leaves.
fn names(sheet: &mut Sheet, facts: &Facts) {
    let Some(counts) = facts.measured.planes.get(&Plane::Host) else { return };
    let Names { answered, forwarded, failed, dropped } = counts.names;
    let outcome = |outcome: &str| vec![("outcome", outcome.to_owned())];
    sheet.gauge(
        "host_names",
        "Queries to the stub DNS servers of connected hosts, by what came of them",
        [
            (outcome("answered"), float(answered)),
            (outcome("forwarded"), float(forwarded)),
            (outcome("failed"), float(failed)),
            (outcome("dropped"), float(dropped)),
        ],
    );
}

fn plans(sheet: &mut Sheet, statuses: &[Status]) {
    let named = |status: &Status| vec![("plan", status.plan.to_string())];
    let rows = statuses.iter().map(|status| (named(status), float(status.revision)));
    sheet.gauge("plan_revision", "Revision of the last command or automation on the plan", rows);
    let rows = statuses.iter().map(|status| {
        let labels = [named(status), vec![("phase", word(&status.phase))]].concat();
        (labels, 1.0)
    });
    sheet.gauge("plan_phase", "1 for the phase that the plan is in", rows);
    let rows = statuses.iter().map(|status| (named(status), f64::from(u8::from(status.converged))));
    sheet.gauge("plan_converged", "1 when every sink has applied what the plan says", rows);
    let rows = statuses.iter().flat_map(|status| {
        let held = |hold: &plan::view::HoldView| {
            ([named(status), vec![("reason", word(&hold.reason))]].concat(), 1.0)
        };
        status.holds.iter().map(held).collect::<Vec<_>>()
    });
    sheet.gauge("plan_hold", "1 for each reason why the plan does not move", rows);
    let rows = statuses.iter().flat_map(splits);
    let help = "Share of clients on target: intended by the plan, acked by sinks, measured";
    sheet.gauge("split_ratio", help, rows);
}

/// The word that JSON has for it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

fn splits(status: &Status) -> Vec<(Vec<(&'static str, String)>, f64)> {
    let mut rows = Vec::new();
    for service in &status.services {
        for (plane, numbers) in service.planes.iter() {
            let figures = [
                ("intended", Some(numbers.intended_bp)),
                ("acked", numbers.acked_bp),
                ("measured", numbers.measured.as_ref().map(|share| share.bp)),
            ];
            for (kind, bp) in figures {
                let Some(bp) = bp else { continue };
                let labels = vec![
                    ("plan", status.plan.to_string()),
                    ("service", service.name.to_string()),
                    ("plane", plane.to_string()),
                    ("kind", kind.to_owned()),
                ];
                rows.push((labels, f64::from(bp) / 10_000.0));
            }
        }
    }
    rows
}

fn controller(sheet: &mut Sheet, numbers: &Numbers) {
    let one = |value| [(vec![], value)];
    sheet.gauge(
        "log_incarnation",
        "Incarnation of the log",
        one(f64::from(numbers.token.incarnation)),
    );
    sheet.gauge("log_revision", "Newest revision of the log", one(float(numbers.token.revision)));
    sheet.gauge("log_broken", "1 when nothing is committed any more", one(flag(numbers.broken)));
    sheet.gauge(
        "reserve_held",
        "1 while the reserve for a rollback on a full disk is in place",
        one(flag(numbers.reserve_held)),
    );
    sheet.gauge("plans", "Plans", one(number(numbers.plans)));
    let waiting = one(number(numbers.waiting));
    sheet.gauge("commands_waiting", "Commands that wait for their commit", waiting);
    let kind = |kind: &str| vec![("state", kind.to_owned())];
    sheet.gauge(
        "sinks",
        "Receivers",
        [
            (kind("expected"), number(numbers.sinks)),
            (kind("away"), number(numbers.sinks_away)),
            (kind("lagging"), number(numbers.sinks_lagging)),
        ],
    );
    let outcome = |outcome: &str| vec![("outcome", outcome.to_owned())];
    sheet.counter(
        "commands",
        "Commands by what came of them",
        [
            (outcome("done"), numbers.asks_done),
            (outcome("refused"), numbers.asks_refused),
            (outcome("busy"), numbers.asks_busy),
            (outcome("failed"), numbers.asks_failed),
        ],
    );
    sheet.counter(
        "appends",
        "Appends to the log by what came of them",
        [
            (outcome("done"), numbers.appends),
            (outcome("stale"), numbers.appends_stale),
            (outcome("unknown"), numbers.appends_unknown),
            (outcome("failed"), numbers.appends_failed),
        ],
    );
    sheet.counter("records", "Records appended since the start", [(vec![], numbers.records)]);
    let help = "Time of one append to the log, durable";
    let times = AppendTimes::of(numbers);
    sheet.registry.register_with_unit("append_duration", help, Unit::Seconds, times);
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// The times of appends as a histogram.
#[derive(Debug)]
struct AppendTimes {
    sum: Duration,
    count: u64,
    /// Upper bound in seconds, and how many are in this class alone.
    classes: Vec<(f64, u64)>,
}

impl AppendTimes {
    fn of(numbers: &Numbers) -> Self {
        let bounds = APPEND_CLASSES.iter().map(|micros| float(*micros) / 1e6);
        let mut classes: Vec<_> = bounds.zip(numbers.append_classes).collect();
        let counted: u64 = numbers.append_classes.iter().sum();
        let count = numbers.appends.max(counted);
        classes.push((f64::INFINITY, count - counted));
        Self { sum: numbers.append_time, count, classes }
    }
}

impl EncodeMetric for AppendTimes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let sum = self.sum.as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, self.count, &self.classes, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A frozen machine is an alarm.
fn machines(sheet: &mut Sheet, api: &Api) {
    let Some(authority) = &api.settings.identity else { return };
    let agents = authority.agents();
    let rows = AgentState::ALL.map(|state| {
        let count = agents.iter().filter(|agent| agent.state == state).count();
        (vec![("state", state.as_str().to_owned())], number(count))
    });
    sheet.gauge("agents", "Machines that have joined, by whether they are let in", rows);
}

fn dns(sheet: &mut Sheet, api: &Api) {
    let Some(server) = &api.settings.dns else { return };
    let totals = server.totals();
    let over = |transport: &str| vec![("transport", transport.to_owned())];
    sheet.counter(
        "dns_queries",
        "DNS messages received",
        [(over("udp"), totals.queries_udp), (over("tcp"), totals.queries_tcp)],
    );
    let code =
        |(code, count): &(dns::wire::Rcode, u64)| (vec![("rcode", code.name().to_owned())], *count);
    sheet.counter("dns_answers", "DNS answers by code", totals.answers.iter().map(code));
    let why = |why: &str| vec![("why", why.to_owned())];
    sheet.counter(
        "dns_unanswered",
        "DNS messages without an answer, by why",
        [
            (why("silent"), totals.silent),
            (why("unsent"), totals.unsent),
            (why("panic"), totals.panics),
        ],
    );
    sheet.counter("dns_truncated", "DNS answers cut for UDP", [(vec![], totals.truncated)]);
    sheet.counter(
        "dns_connections",
        "DNS connections over TCP by what came of them",
        [
            (vec![("outcome", "taken".to_owned())], totals.connections),
            (vec![("outcome", "refused".to_owned())], totals.refused),
            (vec![("outcome", "evicted".to_owned())], totals.evicted),
            (vec![("outcome", "timed-out".to_owned())], totals.timed_out),
        ],
    );
}

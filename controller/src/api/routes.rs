//! The table of routes.

use axum::http::Method;
use axum::routing::{delete, get, post, put};
use schemars::{JsonSchema, SchemaGenerator, json_schema};

use plan::view::{Explain, Status};
use plan::{PlanName, SinkId};

use super::answer::{Changed, ChangedAll, Forgotten, Plans, Put, Sinks, Statuses, Verified};
use super::limits;
use super::machines::{Agents, Machine, Revoked, TokenAsked, TokenDeleted, TokenMade, Tokens};
use super::problem::Code;
use super::reload::Reloaded;
use super::request::{Approve, Plain, Rollback, Shift, Step};
use super::route::{CHANGING, Gives, Parameter, Place, Route, Takes, schema_of};
use super::{admin, commands, events, machines, names, plans, reads};
use crate::handle::{History, Info};

/// All of them.
pub(crate) fn table() -> Vec<Route> {
    [
        plan_routes(),
        verb_routes(),
        read_routes(),
        controller_routes(),
        machine_routes(),
        health_routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A GET that gives JSON.
fn read<T: JsonSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Route {
    Route {
        method: Method::GET,
        path,
        id,
        summary,
        parameters: Vec::new(),
        takes: Takes::Nothing,
        gives: Gives::Json(schema_of::<T>),
        failures: Vec::new(),
        handler: axum::routing::MethodRouter::new(),
        health: false,
    }
}

fn plan_routes() -> Vec<Route> {
    let plans = read::<Plans>("/v1/plans", "listPlans", "All plans");
    let one = "/v1/plans/{plan}";
    let get_plan = read::<()>(one, "getPlan", "A plan as it was applied");
    let put_plan = read::<Put>(one, "applyPlan", "Apply a plan, new or changed");
    let delete_plan = read::<Changed>(one, "deletePlan", "Forget a plan");
    vec![
        Route { handler: get(reads::plans), ..plans },
        Route {
            parameters: vec![plan()],
            gives: Gives::Plan,
            failures: vec![Code::NotFound],
            handler: get(plans::read),
            ..get_plan
        },
        Route {
            method: Method::PUT,
            parameters: vec![plan(), dry_run(), reason(), if_match(), key()],
            takes: Takes::Plan,
            failures: CHANGING.into_iter().chain([Code::TooMany]).collect(),
            handler: put(plans::apply),
            ..put_plan
        },
        Route {
            method: Method::DELETE,
            parameters: vec![plan(), reason(), if_match(), key()],
            failures: CHANGING.to_vec(),
            handler: delete(plans::delete),
            ..delete_plan
        },
    ]
}

fn verb_routes() -> Vec<Route> {
    let verb = |path, id, summary, takes, handler| Route {
        method: Method::POST,
        parameters: vec![plan(), if_match(), key()],
        takes: Takes::Json(takes),
        failures: CHANGING.to_vec(),
        handler,
        ..read::<Changed>(path, id, summary)
    };
    vec![
        verb(
            "/v1/plans/{plan}/start",
            "start",
            "From now on the plan takes its steps by itself",
            schema_of::<Plain>,
            post(commands::start),
        ),
        verb(
            "/v1/plans/{plan}/step",
            "step",
            "End the bake of this step",
            schema_of::<Step>,
            post(commands::step),
        ),
        verb(
            "/v1/plans/{plan}/shift",
            "shift",
            "Move a service or the plan to a split, now",
            schema_of::<Shift>,
            post(commands::shift),
        ),
        verb(
            "/v1/plans/{plan}/pause",
            "pause",
            "Nothing moves until an operator acts",
            schema_of::<Plain>,
            post(commands::pause),
        ),
        verb(
            "/v1/plans/{plan}/resume",
            "resume",
            "Go on; after a rollback `If-Match` must name the plan's revision",
            schema_of::<Plain>,
            post(commands::resume),
        ),
        verb(
            "/v1/plans/{plan}/approve",
            "approve",
            "Approve a manual gate",
            schema_of::<Approve>,
            post(commands::approve),
        ),
        verb(
            "/v1/plans/{plan}/retire",
            "retire",
            "End a complete plan",
            schema_of::<Plain>,
            post(commands::retire),
        ),
        verb(
            "/v1/plans/{plan}/rollback",
            "rollback",
            "Every client of the plan, or of a service, to legacy, now",
            schema_of::<Rollback>,
            post(commands::rollback),
        ),
        rollback_all(),
    ]
}

fn rollback_all() -> Route {
    let route = read::<ChangedAll>(
        "/v1/rollback",
        "rollbackAll",
        "Every client of every plan to legacy, now, in one revision",
    );
    Route {
        method: Method::POST,
        parameters: vec![key()],
        takes: Takes::Json(schema_of::<Plain>),
        failures: CHANGING.to_vec(),
        handler: post(commands::rollback_all),
        ..route
    }
}

fn read_routes() -> Vec<Route> {
    let status = read::<Status>(
        "/v1/plans/{plan}/status",
        "status",
        "Intended, acked and measured, and why the plan is not moving",
    );
    let history =
        read::<History>("/v1/plans/{plan}/history", "history", "Who did what, when and why");
    let explain = read::<Explain>(
        "/v1/plans/{plan}/explain",
        "explain",
        "Which side a client gets in each plane, and why",
    );
    let watch_all = read::<()>("/v1/watch", "watch", "The status of plans, whenever it changes");
    let answer = read::<names::Answer>(
        "/v1/answer",
        "answer",
        "The DNS answer that a client gets, and the reason for it",
    );
    vec![
        Route {
            parameters: vec![plan()],
            failures: vec![Code::NotFound],
            handler: get(reads::status),
            ..status
        },
        Route {
            parameters: vec![plan(), before(), limit()],
            failures: vec![Code::NotFound, Code::StoreFailed],
            handler: get(reads::history),
            ..history
        },
        Route {
            parameters: vec![plan(), service(), client()],
            failures: vec![Code::NotFound],
            handler: get(reads::explain),
            ..explain
        },
        Route {
            parameters: vec![one_plan(), last_event_id()],
            gives: Gives::Events(|generator| {
                let (one, all) = (schema_of::<Status>(generator), schema_of::<Statuses>(generator));
                json_schema!({ "anyOf": [one, all] })
            }),
            failures: vec![Code::NotFound, Code::TooMany, Code::NotReady],
            handler: get(events::watch),
            ..watch_all
        },
        Route {
            parameters: vec![name(), record_type(), client()],
            failures: vec![Code::NotFound, Code::NotReady],
            handler: get(names::answer),
            ..answer
        },
    ]
}

fn controller_routes() -> Vec<Route> {
    let forget = read::<Forgotten>("/v1/sinks/{id}", "forgetSink", "Expect a receiver no more");
    let verify = read::<Verified>("/v1/audit/verify", "verifyAudit", "Check the log's hash chain");
    let reload = read::<Reloaded>("/v1/reload", "reload", "Read the files of the plans again");
    let backup = read::<()>("/v1/backup", "backup", "A verified copy of the log");
    vec![
        Route {
            handler: get(reads::sinks),
            ..read::<Sinks>("/v1/sinks", "listSinks", "Every receiver of every plane")
        },
        Route {
            method: Method::DELETE,
            parameters: vec![sink()],
            failures: vec![
                Code::NotFound,
                Code::Refused,
                Code::StoreFull,
                Code::StoreFailed,
                Code::NotReady,
            ],
            handler: delete(admin::forget),
            ..forget
        },
        Route {
            failures: vec![Code::LogAltered, Code::StoreFailed, Code::NotReady],
            handler: get(admin::verify),
            ..verify
        },
        Route {
            method: Method::POST,
            parameters: vec![key()],
            takes: Takes::Json(schema_of::<Plain>),
            failures: CHANGING.into_iter().chain([Code::InvalidPlan]).collect(),
            handler: post(admin::reload),
            ..reload
        },
        Route {
            method: Method::POST,
            takes: Takes::Json(schema_of::<Plain>),
            gives: Gives::Other("application/octet-stream"),
            failures: vec![
                Code::SocketOnly,
                Code::TooMany,
                Code::StoreFull,
                Code::StoreFailed,
                Code::NotReady,
            ],
            handler: post(admin::backup),
            ..backup
        },
        Route {
            handler: get(admin::info),
            ..read::<Info>("/v1/info", "info", "Version and addresses")
        },
        Route {
            gives: Gives::Json(|_| json_schema!({ "type": "object" })),
            handler: get(admin::openapi),
            ..read::<()>("/openapi.json", "openapi", "This document")
        },
    ]
}

fn machine_routes() -> Vec<Route> {
    let tokens = read::<Tokens>("/v1/tokens", "listTokens", "The tokens that wait to be used");
    let make = read::<TokenMade>("/v1/tokens", "createToken", "A token by which a machine joins");
    let delete_token =
        read::<TokenDeleted>("/v1/tokens/{name}", "deleteToken", "Take a token back");
    let agents = read::<Agents>("/v1/agents", "listAgents", "The machines that have joined");
    let revoke = read::<Revoked>("/v1/agents/{name}", "revokeAgent", "Let a machine in no more");
    let store = [Code::StoreFull, Code::StoreFailed, Code::NotReady];
    let failing = |codes: &[Code]| [codes, store.as_slice()].concat();
    vec![
        Route { failures: failing(&[Code::NotFound]), handler: get(machines::tokens), ..tokens },
        Route {
            method: Method::POST,
            takes: Takes::Json(schema_of::<TokenAsked>),
            failures: failing(&[Code::NotFound, Code::Refused]),
            handler: post(machines::create_token),
            ..make
        },
        Route {
            method: Method::DELETE,
            parameters: vec![machine(), reason()],
            failures: failing(&[Code::NotFound]),
            handler: delete(machines::delete_token),
            ..delete_token
        },
        Route { failures: vec![Code::NotFound], handler: get(machines::agents), ..agents },
        Route {
            method: Method::DELETE,
            parameters: vec![machine(), reason()],
            failures: failing(&[Code::NotFound]),
            handler: delete(machines::revoke),
            ..revoke
        },
    ]
}

fn health_routes() -> Vec<Route> {
    let probe = |path, id, summary| Route { health: true, ..read::<()>(path, id, summary) };
    vec![
        Route {
            gives: Gives::Other("text/plain"),
            handler: get(admin::healthz),
            ..probe("/healthz", "healthz", "Whether the process runs")
        },
        Route {
            gives: Gives::Other("text/plain"),
            failures: vec![Code::NotReady],
            handler: get(admin::readyz),
            ..probe("/readyz", "readyz", "Whether the log is loaded and every socket answers")
        },
        Route {
            gives: Gives::Other("application/openmetrics-text"),
            handler: get(super::metrics::scrape),
            ..probe("/metrics", "metrics", "Figures for OpenMetrics scrapers")
        },
    ]
}

const fn parameter(
    name: &'static str,
    place: Place,
    schema: fn(&mut SchemaGenerator) -> schemars::Schema,
    example: &'static str,
    text: &'static str,
) -> Parameter {
    Parameter { name, place, required: false, text, schema, example }
}

fn plan() -> Parameter {
    parameter("plan", Place::Path, schema_of::<PlanName>, "shop", "The plan's name")
}

fn one_plan() -> Parameter {
    parameter("plan", Place::Query, schema_of::<PlanName>, "shop", "Only this plan; else all")
}

fn sink() -> Parameter {
    let text = "The sink's id, its `/` written `%2F`";
    parameter("id", Place::Path, schema_of::<SinkId>, "dns%2Flocal", text)
}

fn machine() -> Parameter {
    parameter("name", Place::Path, schema_of::<Machine>, "vm-1", "What the machine is called")
}

fn dry_run() -> Parameter {
    let schema = |_: &mut SchemaGenerator| json_schema!({ "type": "boolean" });
    parameter("dryRun", Place::Query, schema, "true", "Only say what would change")
}

fn reason() -> Parameter {
    let schema = schema_of::<super::request::Reason>;
    parameter("reason", Place::Query, schema, "window agreed", "Why, for the audit")
}

fn if_match() -> Parameter {
    let schema = |_: &mut SchemaGenerator| {
        let quoted = "^\"[0-9]{1,19}\"$";
        json_schema!({ "type": "string", "minLength": 3, "pattern": quoted })
    };
    let text = "Only if the plan has this revision; else 412";
    parameter("If-Match", Place::Header, schema, "\"42\"", text)
}

fn key() -> Parameter {
    let schema =
        |_: &mut SchemaGenerator| json_schema!({ "type": "string", "pattern": "^[!-~]{1,128}$" });
    let text = "The same key for the same call takes effect once";
    parameter("Idempotency-Key", Place::Header, schema, "deploy-2031-7", text)
}

fn last_event_id() -> Parameter {
    let schema =
        |_: &mut SchemaGenerator| json_schema!({ "type": "string", "pattern": "^[!-~]{1,128}$" });
    let text = "The id of the last event that was seen: the same status is not sent again";
    parameter("Last-Event-ID", Place::Header, schema, "1.42-9f3ac1d2b4e5f607", text)
}

fn service() -> Parameter {
    let schema = schema_of::<plan::ServiceName>;
    let service = parameter(
        "service",
        Place::Query,
        schema,
        "orders",
        "The service, by its name in the plan",
    );
    Parameter { required: true, ..service }
}

fn client() -> Parameter {
    parameter(
        "client",
        Place::Query,
        schema_of::<names::Client>,
        "10.8.0.7",
        "The client's address, or its network as `10.8.0.0/24`",
    )
}

fn name() -> Parameter {
    let schema = schema_of::<plan::HostName>;
    let name = parameter("name", Place::Query, schema, "orders.corp.example", "The name asked for");
    Parameter { required: true, ..name }
}

fn record_type() -> Parameter {
    let schema = |_: &mut SchemaGenerator| {
        json_schema!({
            "anyOf": [
                { "type": "string", "enum": [
                    "A", "AAAA", "ANY", "CAA", "CNAME", "DNAME", "DNSKEY", "DS", "HTTPS", "MX",
                    "NAPTR", "NS", "PTR", "SOA", "SRV", "SSHFP", "SVCB", "TLSA", "TXT",
                ] },
                { "type": "string", "pattern": "^TYPE[1-9][0-9]{0,3}$" },
            ],
            "default": "A",
        })
    };
    parameter("type", Place::Query, schema, "AAAA", "The record type")
}

fn before() -> Parameter {
    let schema = |_: &mut SchemaGenerator| {
        let most = i64::MAX;
        json_schema!({ "type": "integer", "minimum": 0, "maximum": most })
    };
    parameter("before", Place::Query, schema, "42", "Only records before this revision")
}

fn limit() -> Parameter {
    let schema = |_: &mut SchemaGenerator| {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": limits::PAGE_MAX,
            "default": limits::PAGE })
    };
    parameter("limit", Place::Query, schema, "100", "The most records to give")
}

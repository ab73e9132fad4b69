//! The shape of a plan file: which fields there are, which must be there, how many of each.
//!
//! One table for the parser and for the published schema, so that they cannot differ.

/// The most services: what one controller is measured with.
pub const SERVICES_MAX: usize = 20_000;
/// The most host names of one service.
pub const HOSTS_MAX: usize = 100;
/// The most ports of one service.
pub const PORTS_MAX: usize = 100;
/// The most endpoints of one side: what fits a DNS answer over TCP with room to spare.
pub const ENDPOINTS_MAX: usize = 1_000;
/// The most services that one service comes after.
pub const AFTER_MAX: usize = 100;
/// The most zones.
pub const ZONES_MAX: usize = 1_000;
/// The most steps: a tenth of a percent each.
pub const STEPS_MAX: usize = 1_000;
/// The most gates.
pub const GATES_MAX: usize = 100;
/// The most approvals that one gate asks for: nobody gathers more people.
pub const APPROVERS_MAX: u32 = 100;
/// The most client rows.
pub const ROWS_MAX: usize = 1_000;
/// The most networks of one client row, or of one gateway.
pub const NETWORKS_MAX: usize = 1_000;
/// The most resolvers.
pub const RESOLVERS_MAX: usize = 1_000;
/// The most addresses of one resolver.
pub const ADDRESSES_MAX: usize = 100;
/// The most gateways: kinds of proxies, not proxies.
pub const GATEWAYS_MAX: usize = 100;
/// The most trusted proxies before a gateway: nobody has a longer chain.
pub const HOPS_MAX: u32 = 16;
/// The most addresses by which proxies of VMs reach a gateway.
pub const ENTRIES_MAX: usize = 16;
/// The most freezes.
pub const FREEZES_MAX: usize = 100;
/// The longest salt, in bytes: as long as a host name.
pub const SALT_MAX: usize = 253;
/// The longest path of a zone file, in bytes: what Linux can open.
pub const PATH_MAX: usize = 4_096;

/// A mapping of the file.
pub(super) struct Shape {
    /// What to call it in messages: `a service`.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// A field of a mapping.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) need: Need,
    pub(super) kind: Kind,
    pub(super) about: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    /// Required unless a field whose feature is not built stands in its place.
    Either,
    Optional,
    /// Known, but its feature is not built.
    Later,
}

pub(super) enum Kind {
    /// Text, with an example.
    Text(&'static str),
    /// A share: `25%`.
    Percent,
    /// A length of time: `1h30m`.
    Duration,
    Integer {
        min: u32,
        max: u32,
    },
    /// Exactly `false`: the other value is a feature not built.
    False,
    Choice(&'static [&'static str]),
    /// One of these words, or a mapping.
    ChoiceOr(&'static [&'static str], &'static Shape),
    /// A length of time, or this word.
    DurationOr(&'static str),
    /// Text that fits a regular expression, with examples; the first stands for all.
    Matching(&'static str, &'static [&'static str]),
    List {
        of: &'static Self,
        min: usize,
        max: usize,
        /// What one of them is called: `a step`.
        one: &'static str,
    },
    Map(&'static Shape),
}

const fn required(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, need: Need::Required, kind, about }
}

const fn either(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, need: Need::Either, kind, about }
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, need: Need::Optional, kind, about }
}

const fn later(name: &'static str, about: &'static str) -> Field {
    Field { name, need: Need::Later, kind: Kind::Text(""), about }
}

const fn list(of: &'static Kind, min: usize, max: usize, one: &'static str) -> Kind {
    Kind::List { of, min, max, one }
}

const LABEL: Kind = Kind::Text("orders");
const HOST: Kind = Kind::Text("orders.corp.example");
const ADDRESS: Kind = Kind::Text("10.0.1.10");
const ENDPOINT: Kind = Kind::Text("10.0.1.11");
const NETWORK: Kind = Kind::Text("10.8.0.0/16");

pub(super) static FILE: Shape = Shape {
    name: "a plan file",
    fields: &[
        required(
            "apiVersion",
            Kind::Choice(&["crossfade.dev/v1alpha1"]),
            "The version of this format.",
        ),
        required("kind", Kind::Choice(&["CutoverPlan"]), "What this file is."),
        required("metadata", Kind::Map(&METADATA), "How the plan is called."),
        required("spec", Kind::Map(&SPEC), "What the operator wants."),
    ],
};

pub(super) static METADATA: Shape = Shape {
    name: "metadata",
    fields: &[required("name", LABEL, "The plan's name, unique in a controller: one DNS label.")],
};

pub(super) static SPEC: Shape = Shape {
    name: "a spec",
    fields: &[
        optional(
            "strategy",
            Kind::Choice(&["gradual", "whole"]),
            "gradual (default): follow the steps. whole: to 100% once all gates pass, then bake.",
        ),
        required(
            "zones",
            list(&Kind::Map(&ZONE), 1, ZONES_MAX, "a zone"),
            "The zones that the plan's names are in.",
        ),
        optional(
            "clients",
            list(&Kind::Map(&ROW), 0, ROWS_MAX, "a client row"),
            "Which plane splits whom; everyone else is split by dns. Networks do not overlap.",
        ),
        optional(
            "resolvers",
            list(&Kind::Map(&RESOLVER), 0, RESOLVERS_MAX, "a resolver"),
            "Resolvers with several addresses, each counted as one client.",
        ),
        required(
            "services",
            list(&Kind::Map(&SERVICE), 1, SERVICES_MAX, "a service"),
            "What moves.",
        ),
        required(
            "steps",
            list(&Kind::Map(&STEP), 1, STEPS_MAX, "a step"),
            "Rising splits of all services, the last one 100%. Strategy whole has exactly one.",
        ),
        optional(
            "gates",
            list(&Kind::Map(&GATE), 0, GATES_MAX, "a gate"),
            "The gates that steps name.",
        ),
        optional(
            "clientKey",
            Kind::Map(&CLIENT_KEY),
            "How DNS clients are told apart: prefix lengths.",
        ),
        optional(
            "gateways",
            list(&Kind::Map(&GATEWAY), 0, GATEWAYS_MAX, "a gateway"),
            "Kinds of proxies at the target's edge.",
        ),
        optional("policy", Kind::Map(&POLICY), "Limits on raising. Lowering has none."),
    ],
};

pub(super) static ZONE: Shape = Shape {
    name: "a zone",
    fields: &[
        required("name", Kind::Text("corp.example."), "The origin."),
        optional(
            "file",
            Kind::Text("corp.example.zone"),
            "A zone file, served whole around the plan's names. Default: an own SOA and NS.",
        ),
        optional("text", Kind::Text("…"), "The zone file's text, in place of file."),
        optional(
            "ttl",
            Kind::Map(&TTL),
            "TTLs of the plan's names in this zone, in whole seconds.",
        ),
    ],
};

pub(super) static TTL: Shape = Shape {
    name: "a ttl",
    fields: &[
        optional("steady", Kind::Duration, "While nothing moves; default 60s."),
        optional(
            "shifting",
            Kind::Duration,
            "While the plan moves; default 5s, or steady where that is less.",
        ),
    ],
};

pub(super) static ROW: Shape = Shape {
    name: "a client row",
    fields: &[
        required(
            "networks",
            list(&NETWORK, 1, NETWORKS_MAX, "a network"),
            "Where these clients are.",
        ),
        required("plane", Kind::Choice(&["dns", "mesh", "host"]), "Who splits them."),
    ],
};

pub(super) static RESOLVER: Shape = Shape {
    name: "a resolver",
    fields: &[
        required("name", LABEL, "Its name, unique in the plan: one DNS label."),
        required(
            "addresses",
            list(&ADDRESS, 1, ADDRESSES_MAX, "an address"),
            "Its addresses, which count as one client.",
        ),
    ],
};

pub(super) static SERVICE: Shape = Shape {
    name: "a service",
    fields: &[
        required("name", LABEL, "Its name, unique in the plan: one DNS label."),
        optional(
            "after",
            list(&LABEL, 0, AFTER_MAX, "a service's name"),
            "Its split is never above that of these services.",
        ),
        required(
            "hosts",
            list(&HOST, 1, HOSTS_MAX, "a host name"),
            "Its host names, each inside a zone of the plan.",
        ),
        optional(
            "address",
            ADDRESS,
            "The IP that old applications have hard-coded; needed for mesh and host rows.",
        ),
        required("ports", list(&Kind::Map(&PORT), 1, PORTS_MAX, "a port"), "What it listens on."),
        optional(
            "affinity",
            Kind::Matching(
                "^(client-ip|none|(header|cookie):[-!#$%&'*+.^_`|~0-9A-Za-z]{1,128})$",
                &["client-ip", "header:x-user", "cookie:session", "none"],
            ),
            "What makes two requests come from one client: its address, or for http and grpc in \
             plane mesh the value of a header or cookie, and the address where there is none. \
             Default client-ip.",
        ),
        optional(
            "salt",
            Kind::Text("orders-2026"),
            "Seasons the choice of who moves first; default plan/service.",
        ),
        optional("preserveSource", Kind::False, "Forwarded packets keep their source."),
        required("legacy", Kind::Map(&LEGACY), "The VMs."),
        required("target", Kind::Map(&TARGET), "The cluster."),
    ],
};

pub(super) static PORT: Shape = Shape {
    name: "a port",
    fields: &[
        required("name", Kind::Text("http"), "Its name, unique in the service: one DNS label."),
        required("port", Kind::Integer { min: 1, max: 65_535 }, "Its number."),
        required(
            "protocol",
            Kind::Choice(&["http", "grpc", "tcp", "udp"]),
            "What is spoken there.",
        ),
    ],
};

pub(super) static LEGACY: Shape = Shape { name: "a legacy side", fields: &[ENDPOINTS] };

pub(super) static TARGET: Shape = Shape {
    name: "a target side",
    fields: &[
        ENDPOINTS,
        later("kubernetes", "Endpoints by a Kubernetes service."),
        later("reach", "How each plane reaches the cluster."),
    ],
};

const ENDPOINTS: Field = either(
    "endpoints",
    list(&ENDPOINT, 1, ENDPOINTS_MAX, "an endpoint"),
    "Addresses, with a port where it is not the service's own: 10.0.1.11:9090, [2001:db8::1]:9090.",
);

pub(super) static STEP: Shape = Shape {
    name: "a step",
    fields: &[
        required(
            "split",
            Kind::Percent,
            "The share of clients on the target side, in steps of 0.01%.",
        ),
        required(
            "bake",
            Kind::Duration,
            "How long the step must stay converged and healthy before the next.",
        ),
        optional(
            "expires",
            Kind::Duration,
            "Back one step if nobody moves on for this long; longer than bake.",
        ),
        optional(
            "gates",
            list(&LABEL, 0, GATES_MAX, "a gate's name"),
            "What must pass before the plan moves on.",
        ),
    ],
};

pub(super) static GATE: Shape = Shape {
    name: "a gate",
    fields: &[
        required("name", Kind::Text("sign-off"), "Its name, unique in the plan: one DNS label."),
        either("manual", Kind::Map(&MANUAL), "Passes once so many people approve."),
        later("compare", "Compares the two sides."),
        later("worseThan", "Part of compare."),
        later("confidence", "Part of compare."),
        later("prometheus", "Asks a Prometheus server."),
    ],
};

pub(super) static MANUAL: Shape = Shape {
    name: "a manual gate",
    fields: &[required(
        "approvers",
        Kind::Integer { min: 1, max: APPROVERS_MAX },
        "How many different people.",
    )],
};

pub(super) static CLIENT_KEY: Shape = Shape {
    name: "a client key",
    fields: &[
        optional("v4", Kind::Integer { min: 1, max: 32 }, "Bits of an IPv4 address; default 24."),
        optional("v6", Kind::Integer { min: 1, max: 128 }, "Bits of an IPv6 address; default 56."),
    ],
};

pub(super) static GATEWAY: Shape = Shape {
    name: "a gateway",
    fields: &[
        required("name", Kind::Text("edge"), "Its name, unique in the plan: one DNS label."),
        optional(
            "clientAddress",
            Kind::ChoiceOr(&["direct", "proxy-protocol"], &XFF),
            "Where it finds the client's address: direct (default) is the connection's own.",
        ),
        optional(
            "egress",
            list(&NETWORK, 0, NETWORKS_MAX, "a network"),
            "The networks that its own connections to legacy come from.",
        ),
        optional(
            "mtls",
            Kind::Map(&MTLS),
            "Proxies of VMs reach the target side through this gateway, with mutual TLS; at most \
             one gateway of a plan.",
        ),
    ],
};

pub(super) static MTLS: Shape = Shape {
    name: "an mTLS entry",
    fields: &[required(
        "addresses",
        list(&ADDRESS, 1, ENTRIES_MAX, "an address"),
        "Where it is reached, at the services' own ports.",
    )],
};

pub(super) static XFF: Shape = Shape {
    name: "a client address",
    fields: &[required(
        "xff",
        Kind::Integer { min: 1, max: HOPS_MAX },
        "In X-Forwarded-For, with so many trusted proxies before the gateway.",
    )],
};

pub(super) static POLICY: Shape = Shape {
    name: "a policy",
    fields: &[
        optional(
            "maxStep",
            Kind::Percent,
            "The most that one revision may raise a service; default no limit.",
        ),
        optional(
            "drain",
            Kind::DurationOr("none"),
            "How long after exactly 0% or 100% what is left on the losing side is closed; default \
             none: nothing is closed.",
        ),
        optional(
            "freeze",
            list(&Kind::Map(&FREEZE), 0, FREEZES_MAX, "a freeze"),
            "Windows in which nothing rises.",
        ),
    ],
};

pub(super) static FREEZE: Shape = Shape {
    name: "a freeze",
    fields: &[
        required(
            "cron",
            Kind::Text("0 18 * * FRI"),
            "When it begins: minute, hour, day, month, weekday.",
        ),
        required("for", Kind::Duration, "How long it lasts, in time that passes."),
        required("tz", Kind::Text("Asia/Shanghai"), "Where the clock hangs: an IANA time zone."),
    ],
};

//! Figures of the xDS server.

use xds::server::Counts;

use super::{Sheet, float};

pub(super) fn rows(sheet: &mut Sheet, counts: &Counts) {
    let one = |value| [(vec![], value)];
    sheet.gauge("xds_connections", "Connections to the xDS server", one(float(counts.connections)));
    sheet.gauge("xds_streams", "Open discovery streams", one(float(counts.streams)));
    let outcome = |outcome: &str| vec![("outcome", outcome.to_owned())];
    sheet.counter(
        "xds_arrivals",
        "Connections and streams of xDS by what came of them",
        [
            (outcome("connected"), counts.accepted),
            (outcome("opened"), counts.opened),
            (outcome("delayed"), counts.delayed),
            (outcome("refused"), counts.refused),
            (outcome("stalled"), counts.stalled),
        ],
    );
    let kind = |kind: &str| vec![("kind", kind.to_owned())];
    sheet.counter(
        "xds_requests",
        "Discovery requests, those that ack and those that refuse",
        [(kind("all"), counts.requests), (kind("ack"), counts.acks), (kind("nack"), counts.nacks)],
    );
    let one = |value| [(vec![], value)];
    sheet.counter("xds_responses", "Discovery responses", one(counts.responses));
    sheet.counter("xds_resources", "Resources in discovery responses", one(counts.resources));
    sheet.counter("xds_sent_bytes", "Bytes of discovery responses", one(counts.bytes));
    let help = "Resources encoded: one for each change, whatever the number of streams";
    sheet.counter("xds_encodings", help, one(counts.encodings));
    let bad = counts.bad.iter().map(|(name, count)| (kind(name), *count));
    sheet.counter("xds_bad_input", "Bad input to the xDS server, by kind", bad);
}

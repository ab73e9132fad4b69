//! What a caller may use, and why each bound is where it is.

use std::time::Duration;

/// The most connections on all TCP addresses together. Each costs a task and a read buffer of at
/// most [`HEAD_BYTES_MAX`]; operators and scripts need tens.
pub(crate) const TCP_CONNECTIONS_MAX: usize = 512;

/// The most connections on the unix socket. Counted apart, so that whoever fills the TCP side does
/// not lock the host's operator out.
pub(crate) const UNIX_CONNECTIONS_MAX: usize = 128;

/// The most connections on the metrics address: a few scrapers and probes.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 64;

/// The most connections that are being told that there are too many.
pub(crate) const TURNED_AWAY_MAX: usize = 32;

/// The most bytes of a request's head; hyper's smallest buffer is 8 KiB.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;

/// The most header fields of a request. Browsers send about twenty.
pub(crate) const HEADERS_MAX: usize = 64;

/// How long a caller may take to send a head, also while the connection is idle between requests.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// The most bytes of a body that is no plan: the longest one is a reason of a few lines.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;

/// How long such a body may take.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(15);

/// The most bytes of a plan with its zone texts.
pub(crate) const PLAN_BODY_BYTES_MAX: usize = plan::file::FILE_MAX;

/// How long a plan may take to arrive: the longest one at 3 MiB a second.
pub(crate) const PLAN_BODY_TIME_MAX: Duration = Duration::from_secs(120);

/// How many plans are read and checked at once: bounds memory to so many times the longest plan.
pub(crate) const PLANS_AT_ONCE_MAX: usize = 2;

/// How long an answer may take. A commit that takes longer goes on; its caller is told so.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// The same for a plan with all its zone texts, for the whole audit and for a backup.
pub(crate) const LONG_ANSWER_TIME_MAX: Duration = Duration::from_secs(600);

/// The most watchers. Each computes a status up to ten times a second while something changes.
pub(crate) const WATCHERS_MAX: usize = 64;

/// How often a watcher looks for what time alone changes: a bake that goes on, an answer that
/// expires.
pub(crate) const EVENT_TICK: Duration = Duration::from_secs(1);

/// How often a silent stream sends a comment, so that neither end takes it for dead.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a graceful stop waits for requests that are being answered.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// How long to wait before accepting again when the process has no file descriptor left.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long somebody who was turned away may take to read why.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// How many entries a page of the history has unless asked otherwise, and at most.
pub(crate) const PAGE: u32 = 100;

/// The most entries of one page of the history.
pub(crate) const PAGE_MAX: u32 = 1_000;

/// The most characters of an operator's reason: a paragraph.
pub(crate) const REASON_CHARS_MAX: u32 = 1_000;

/// The most limits that one call may override: more than a plan can sensibly have gates.
pub(crate) const OVERRIDES_MAX: u32 = 64;

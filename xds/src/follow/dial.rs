//! Which address is tried, when, and how.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long an address may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// After so long without a word the other end is asked whether it is there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// It has so long to say so.
const KEEPALIVE_MAX: Duration = Duration::from_secs(5);
/// The longest that a certificate or key file may be, in bytes.
const PEM_MAX: u64 = 1 << 20;

/// Several addresses of controllers, tried in turn; one that works is stayed with.
#[derive(Debug)]
pub struct Dial {
    addresses: Vec<Arc<str>>,
    tls: Option<Arc<dyn TlsSource>>,
    at: usize,
    backoff: Backoff,
}

/// What a connection begins with: who the other end must be, and who we are. PEM each.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    /// Who may sign the controller's certificate; one or more.
    pub ca: String,
    /// Our certificate, with those it was signed by.
    pub chain: String,
    /// Its key.
    pub key: String,
    /// The name that the controller's certificate must have. `None`: the address that is dialled.
    pub server_name: Option<String>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Gives what connections begin with. Asked for each one, so what is renewed meanwhile is shown by
/// the next.
pub trait TlsSource: Send + Sync + fmt::Debug {
    /// What is to be shown now.
    fn shown(&self) -> Shown;
}

/// It never changes.
impl TlsSource for Shown {
    fn shown(&self) -> Shown {
        self.clone()
    }
}

/// Why there is nobody to dial.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address was given.
    #[error("no controller is named")]
    NoAddress,
    /// An address is none.
    #[error("`{0}` is no address of a controller; write HOST:PORT")]
    Address(String),
    /// A controller elsewhere must be recognised, and must recognise us.
    #[error(
        "{0} is not loopback, so it needs TLS: give --tls-ca, --tls-cert and --tls-key, which the \
         controller's operator hands out"
    )]
    NeedsTls(String),
    /// A file of TLS is not to be had.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
}

/// Files of TLS, PEM each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may sign the controller's certificate.
    pub ca: PathBuf,
    /// Our certificate, with those it was signed by.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Dial {
    /// Addresses are `HOST:PORT`. Only loopback goes without TLS.
    ///
    /// # Errors
    /// There is none, one is none, or TLS is missing or cannot be read.
    pub fn new(addresses: &[String], tls: Option<&TlsFiles>) -> Result<Self, DialError> {
        let tls = match tls {
            None => None,
            Some(files) => {
                let shown = Shown {
                    ca: pem(&files.ca)?,
                    chain: pem(&files.certificate)?,
                    key: pem(&files.key)?,
                    server_name: None,
                };
                Some(Arc::new(shown) as Arc<dyn TlsSource>)
            }
        };
        Self::of(addresses, tls)
    }

    /// With an identity that may change while this runs. All addresses are dialled with TLS.
    ///
    /// # Errors
    /// There is no address, or one is none.
    pub fn with_source(
        addresses: &[String],
        source: Arc<dyn TlsSource>,
    ) -> Result<Self, DialError> {
        Self::of(addresses, Some(source))
    }

    fn of(addresses: &[String], tls: Option<Arc<dyn TlsSource>>) -> Result<Self, DialError> {
        if addresses.is_empty() {
            return Err(DialError::NoAddress);
        }
        for address in addresses {
            let host = host(address)?;
            if tls.is_none() && !is_loopback(host) {
                return Err(DialError::NeedsTls(address.clone()));
            }
        }
        let addresses = addresses.iter().map(|address| address.as_str().into()).collect();
        Ok(Self { addresses, tls, at: 0, backoff: Backoff::default() })
    }

    /// The address to try now.
    pub(super) fn address(&self) -> Arc<str> {
        self.addresses.get(self.at).cloned().unwrap_or_default()
    }

    /// It works: it is stayed with, and the next pause is short again.
    pub(super) fn worked(&mut self) {
        self.backoff = Backoff::default();
    }

    /// It does not work: the next one, after this pause.
    pub(super) fn failed(&mut self, random: u64) -> Duration {
        self.at = (self.at + 1) % self.addresses.len().max(1);
        self.backoff.next(random)
    }

    /// Connects to [`Dial::address`].
    pub(super) async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address()))?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_MAX)
            .keep_alive_while_idle(true);
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(config(tls.shown()))?;
        }
        endpoint.connect().await
    }
}

fn config(shown: Shown) -> ClientTlsConfig {
    let Shown { ca, chain, key, server_name } = shown;
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(chain, key));
    match server_name {
        Some(name) => config.domain_name(name),
        None => config,
    }
}

/// Pauses between attempts: they double, and each is drawn from its upper half, so that those who
/// lost the same controller do not all come back at once.
#[derive(Clone, Copy, Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The first pause at the most.
    const FIRST: Duration = Duration::from_millis(200);
    /// Every pause at the most.
    const MOST: Duration = Duration::from_secs(10);

    fn next(&mut self, random: u64) -> Duration {
        let doubled =
            Self::FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(16);
        let most = doubled.min(Self::MOST);
        let half = most / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(random % spread.max(1))
    }
}

/// Whether this is an address of a controller.
///
/// # Errors
/// It is not `HOST:PORT`.
pub fn check(address: &str) -> Result<(), DialError> {
    host(address).map(drop)
}

fn host(address: &str) -> Result<&str, DialError> {
    match split(address) {
        Some((host, port)) if port != 0 => Ok(host),
        Some(_) | None => Err(DialError::Address(address.to_owned())),
    }
}

/// Host and port; brackets of IPv6 stay off.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let (host, is_fine) = match host.strip_prefix('[') {
        Some(inner) => (inner.strip_suffix(']')?, is_v6(inner.strip_suffix(']')?)),
        None => (host, is_v4(host) || is_name(host)),
    };
    is_fine.then_some((host, port.parse().ok()?))
}

fn is_v4(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok()
}

/// With the interface that it is reached by, where it is link-local (RFC 4007 section 11).
fn is_v6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').map_or((host, None), |(a, zone)| (a, Some(zone)));
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(|zone| zone.chars().all(fine))
}

/// Labels of letters, digits, `-` and `_`; the last one is no number, or it would be an address.
fn is_name(host: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| !label.is_empty() && label.chars().all(fine);
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next().unwrap_or_default();
    labels.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

fn pem(path: &Path) -> Result<String, DialError> {
    use std::io::Read as _;
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(PEM_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(source) => Err(DialError::File { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, fine) in [
            ("127.0.0.1:7410", true),
            ("[::1]:7410", true),
            ("localhost:7410", true),
            ("::1:7410", false),
            ("127.0.0.1", false),
            ("127.0.0.1:0", false),
            ("a b:1", false),
            (":1", false),
        ] {
            assert_eq!(Dial::new(&[address.to_owned()], None).is_ok(), fine, "{address}");
        }
        for fine in ["a:1", "vm-1.corp.example.:65535", "4.example:1", "[fe80::1%eth0.2]:1"] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for bad in [
            "localhost",
            "10.0.0.300:1",
            "10.0.1:1",
            "a..b:1",
            ".:1",
            "[]:1",
            "[localhost]:1",
            "localhost:99999",
            "localhost:",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let far = Dial::new(&["10.0.0.1:7410".to_owned()], None).unwrap_err().to_string();
        assert!(far.contains("--tls-ca"), "{far}");
    }

    #[test]
    fn pauses_grow_within_bounds_and_spread() {
        let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(str::to_owned);
        let mut dial = Dial::new(&addresses, None).unwrap();
        assert_eq!(dial.address().as_ref(), "127.0.0.1:1");
        let pauses: Vec<Duration> = (0..40).map(|n| dial.failed(n * 7_777_777_777)).collect();
        assert_eq!(dial.address().as_ref(), "127.0.0.1:1");
        assert!(pauses[0] <= Backoff::FIRST && pauses[0] >= Backoff::FIRST / 2);
        assert!(pauses.iter().all(|pause| *pause <= Backoff::MOST));
        assert!(pauses[20..].iter().all(|pause| *pause >= Backoff::MOST / 2));
        assert_ne!(pauses[38], pauses[39]);
        dial.failed(0);
        assert_eq!(dial.address().as_ref(), "127.0.0.1:2");
        dial.worked();
        assert!(dial.failed(0) <= Backoff::FIRST);
    }
}

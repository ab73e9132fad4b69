//! Settings of `crossfade serve`: flags over environment over file over defaults, read once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use controller::identity::TrustDomain;
use serde::Deserialize;

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "/etc/crossfade/crossfade.toml";
/// More is a mistake: a configuration is a page, not a book.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Flags and environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Flags {
    /// Where the log is kept; default /var/lib/crossfade for root, else
    /// $XDG_STATE_HOME/crossfade
    #[arg(long, value_name = "DIR", env = "CROSSFADE_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Where the API answers; default 127.0.0.1:7400
    #[arg(long, value_name = "ADDR", env = "CROSSFADE_API")]
    pub(crate) api: Option<SocketAddr>,
    /// Where DNS answers, UDP and TCP; default 127.0.0.1:5300
    #[arg(long, value_name = "ADDR", env = "CROSSFADE_DNS")]
    pub(crate) dns: Option<SocketAddr>,
    /// Where Envoys, gRPC clients, replicas and relays follow the plans; default 127.0.0.1:7410.
    /// On any other address clients must have certificates: of this controller's own CA, which
    /// `crossfade token create` gives to VMs, or of yours with the three files below
    #[arg(long, value_name = "ADDR", env = "CROSSFADE_XDS")]
    pub(crate) xds: Option<SocketAddr>,
    /// The certificate chain that the xDS server shows, PEM
    #[arg(long, value_name = "FILE", env = "CROSSFADE_XDS_CERT")]
    pub(crate) xds_cert: Option<PathBuf>,
    /// Its private key, PEM; not readable by others
    #[arg(long, value_name = "FILE", env = "CROSSFADE_XDS_KEY")]
    pub(crate) xds_key: Option<PathBuf>,
    /// The authorities that clients' certificates must come from, PEM
    #[arg(long, value_name = "FILE", env = "CROSSFADE_XDS_CLIENT_CA")]
    pub(crate) xds_client_ca: Option<PathBuf>,
    /// Give machines identities of this controller's own CA, on loopback too; elsewhere that is so
    /// unless certificates are given
    #[arg(long, env = "CROSSFADE_XDS_IDENTITIES", conflicts_with = "xds_cert")]
    pub(crate) xds_identities: bool,
    /// Where machines find the controllers, HOST:PORT, as join tokens say; default where xDS
    /// listens
    #[arg(long, value_name = "ADDR", env = "CROSSFADE_ADVERTISE", value_delimiter = ',')]
    pub(crate) advertise: Vec<String>,
    /// What the identities of machines begin with; fixed once the first was given
    #[arg(long, value_name = "NAME", env = "CROSSFADE_TRUST_DOMAIN")]
    pub(crate) trust_domain: Option<TrustDomain>,
    /// DNS threads; default one per core
    #[arg(long, value_name = "N", env = "CROSSFADE_DNS_THREADS",
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) dns_threads: Option<u16>,
    /// Where health and metrics alone answer, any address; default nowhere but the API
    #[arg(long, value_name = "ADDR", env = "CROSSFADE_METRICS")]
    pub(crate) metrics: Option<SocketAddr>,
    /// A settings file; default /etc/crossfade/crossfade.toml where it exists
    #[arg(long, value_name = "FILE", env = "CROSSFADE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// How the log reads; default text on a terminal, else json
    #[arg(long, value_enum, value_name = "FORMAT", env = "CROSSFADE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a list such as info,dns=debug
    #[arg(long, value_name = "LEVEL", env = "CROSSFADE_LOG")]
    pub(crate) log: Option<String>,
}

/// How the log reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// The settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    data: Option<PathBuf>,
    api: Option<SocketAddr>,
    dns: Option<SocketAddr>,
    dns_threads: Option<std::num::NonZeroU16>,
    xds: Option<SocketAddr>,
    xds_cert: Option<PathBuf>,
    xds_key: Option<PathBuf>,
    xds_client_ca: Option<PathBuf>,
    xds_identities: bool,
    advertise: Vec<String>,
    trust_domain: Option<String>,
    metrics: Option<SocketAddr>,
    log_format: Option<LogFormat>,
    log: Option<String>,
    /// Names by which browsers and tools may call the API, beside its addresses.
    api_hosts: Vec<String>,
    /// Plan files, applied at start if new.
    plans: Vec<PathBuf>,
}

/// Settings, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where the log is kept.
    pub(crate) data: PathBuf,
    /// Where the API answers.
    pub(crate) api: SocketAddr,
    /// Names by which the API may be called, beside its addresses.
    pub(crate) api_hosts: Vec<String>,
    /// Where DNS answers.
    pub(crate) dns: SocketAddr,
    /// DNS threads, at least one.
    pub(crate) dns_threads: usize,
    /// Where xDS answers.
    pub(crate) xds: SocketAddr,
    /// How the two ends of a connection to it prove who they are.
    pub(crate) xds_proof: XdsProof,
    /// Where machines find the controllers, `HOST:PORT` each; none: where xDS listens.
    pub(crate) advertise: Vec<String>,
    /// What the identities of machines begin with.
    pub(crate) trust_domain: TrustDomain,
    /// Where health and metrics alone answer.
    pub(crate) metrics: Option<SocketAddr>,
    /// How the log reads; `None`: as the output is a terminal or not.
    pub(crate) log_format: Option<LogFormat>,
    /// What is logged.
    pub(crate) log: String,
    /// Plan files, applied at start if new.
    pub(crate) plans: Vec<PathBuf>,
    /// What was given at the start, to resolve it again; `None` where nobody gave anything.
    pub(crate) given: Option<Given>,
}

/// How the two ends of a connection to the xDS server prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum XdsProof {
    /// They do not: it is on loopback.
    Loopback,
    /// By certificates that others hand out.
    Files(XdsTls),
    /// By certificates of the controller's own CA.
    Identities,
}

/// The files of the xDS server's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct XdsTls {
    /// The certificate chain, PEM.
    pub(crate) cert: PathBuf,
    /// The private key, PEM.
    pub(crate) key: PathBuf,
    /// The authorities of clients' certificates, PEM.
    pub(crate) client_ca: PathBuf,
}

/// Flags, environment and arguments as they were at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    flags: Flags,
    plans: Vec<PathBuf>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is not to be had.
    #[error("cannot read the settings file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is too long to be one.
    #[error("the settings file {} is over 1 MiB", path.display())]
    TooLong { path: PathBuf },
    /// The file says something that is no setting.
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    /// Some of the three files are named, not all.
    #[error(
        "TLS for xDS needs three files: --xds-cert, --xds-key and --xds-client-ca; \
         missing: {missing}"
    )]
    HalfTls { missing: String },
    /// What the file says is no trust domain.
    #[error("trust-domain `{0}` is none: letters, digits, `-`, `_` and `.`, in lower case")]
    TrustDomain(String),
    /// Nobody says where the data goes.
    #[error("no data directory: give --data DIR, or set CROSSFADE_DATA or HOME")]
    NoData,
}

impl Config {
    /// Settings from flags and environment, then the file, then defaults.
    ///
    /// # Errors
    /// The file cannot be read or says something unknown; nothing says where the data goes.
    pub(crate) fn resolve(flags: Flags, plans: Vec<PathBuf>) -> Result<Self, ConfigError> {
        let given = Given { flags: flags.clone(), plans: plans.clone() };
        let file = match &flags.config {
            Some(path) => read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE))?,
            None => File::default(),
        };
        Ok(Self { given: Some(given), ..Self::merge(flags, file, plans)? })
    }

    /// The settings that the file gives another value by now. They take effect at the next start.
    ///
    /// # Errors
    /// The file cannot be read any more, or says something unknown.
    pub(crate) fn changed(&self) -> Result<Vec<&'static str>, ConfigError> {
        let Some(Given { flags, plans }) = self.given.clone() else { return Ok(Vec::new()) };
        let now = Self::resolve(flags, plans)?;
        let settings = [
            ("data", self.data != now.data),
            ("api", self.api != now.api),
            ("api-hosts", self.api_hosts != now.api_hosts),
            ("dns", self.dns != now.dns),
            ("dns-threads", self.dns_threads != now.dns_threads),
            ("xds", self.xds != now.xds || self.xds_proof != now.xds_proof),
            ("advertise", self.advertise != now.advertise),
            ("trust-domain", self.trust_domain != now.trust_domain),
            ("metrics", self.metrics != now.metrics),
            ("log-format", self.log_format != now.log_format),
            ("log", self.log != now.log),
            ("plans", self.plans != now.plans),
        ];
        Ok(settings.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect())
    }

    fn merge(flags: Flags, file: File, plans: Vec<PathBuf>) -> Result<Self, ConfigError> {
        let data = match flags.data.or(file.data) {
            Some(data) => data,
            None => default_data().ok_or(ConfigError::NoData)?,
        };
        let cores = || available_parallelism().map_or(1, usize::from);
        let threads = flags.dns_threads.or_else(|| file.dns_threads.map(Into::into));
        let xds =
            flags.xds.or(file.xds).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7410)));
        let xds_tls = xds_tls(
            flags.xds_cert.or(file.xds_cert),
            flags.xds_key.or(file.xds_key),
            flags.xds_client_ca.or(file.xds_client_ca),
        )?;
        let identities = flags.xds_identities || file.xds_identities || !xds.ip().is_loopback();
        let xds_proof = match xds_tls {
            Some(files) => XdsProof::Files(files),
            None if identities => XdsProof::Identities,
            None => XdsProof::Loopback,
        };
        let in_file = file.trust_domain.map(|text| match text.parse() {
            Ok(domain) => Ok(domain),
            Err(_) => Err(ConfigError::TrustDomain(text)),
        });
        let trust_domain = match flags.trust_domain {
            Some(domain) => domain,
            None => in_file.transpose()?.unwrap_or_default(),
        };
        Ok(Self {
            data,
            api: flags.api.or(file.api).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7400))),
            api_hosts: file.api_hosts,
            dns: flags.dns.or(file.dns).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5300))),
            dns_threads: threads.map_or_else(cores, usize::from),
            xds,
            xds_proof,
            advertise: if flags.advertise.is_empty() { file.advertise } else { flags.advertise },
            trust_domain,
            metrics: flags.metrics.or(file.metrics),
            log_format: flags.log_format.or(file.log_format),
            log: flags.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
            plans: if plans.is_empty() { file.plans } else { plans },
            given: None,
        })
    }
}

/// All three files or none.
fn xds_tls(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<XdsTls>, ConfigError> {
    let names = [("--xds-cert", &cert), ("--xds-key", &key), ("--xds-client-ca", &client_ca)];
    let missing: Vec<&str> =
        names.iter().filter(|(_, path)| path.is_none()).map(|(name, _)| *name).collect();
    match (cert, key, client_ca) {
        (Some(cert), Some(key), Some(client_ca)) => Ok(Some(XdsTls { cert, key, client_ca })),
        (None, None, None) => Ok(None),
        _ => Err(ConfigError::HalfTls { missing: missing.join(", ") }),
    }
}

/// `/var/lib/crossfade` for root, else `$XDG_STATE_HOME/crossfade` (XDG Base Directory 0.8).
pub(crate) fn default_data() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some("/var/lib/crossfade".into());
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("crossfade"))
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let unparsed = |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
    toml::from_str(&text).map_err(unparsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<File, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "data = '/from/file'\napi = '127.0.0.1:1'\ndns = '127.0.0.1:2'\ndns-threads = 3";
        let flags = Flags {
            api: Some("127.0.0.1:9".parse().unwrap()),
            dns_threads: Some(7),
            ..Flags::default()
        };
        let config = Config::merge(flags, file(text).unwrap(), vec![]).unwrap();
        assert_eq!(config.data, Path::new("/from/file"));
        assert_eq!(config.api.port(), 9, "the flag");
        assert_eq!(config.dns.port(), 2, "the file");
        assert_eq!(config.dns_threads, 7, "the flag");
        assert_eq!(config.metrics, None, "the default");
        assert_eq!(config.log, "info", "the default");
    }

    #[test]
    fn a_file_with_something_unknown_is_refused_with_its_line() {
        for (text, said) in [
            ("api = '127.0.0.1:1'\nspeed = 3", "unknown field `speed`"),
            ("dns-threads = 0", "line 1"),
            ("api = 'everywhere'", "line 1"),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_the_file_says_anew_is_told() {
        let name = format!("crossfade-settings-{}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, "data = '/one'\ndns = '127.0.0.1:2'\nlog = 'warn'").unwrap();
        let flags =
            Flags { config: Some(file.clone()), log: Some("info".to_owned()), ..Flags::default() };
        let config = Config::resolve(flags, vec![]).unwrap();
        assert_eq!(config.changed().unwrap(), [""; 0]);
        std::fs::write(&file, "data = '/one'\ndns = '127.0.0.1:3'\nlog = 'error'").unwrap();
        assert_eq!(config.changed().unwrap(), ["dns"], "the flag hides the other");
        std::fs::write(&file, "dns = 'nowhere'").unwrap();
        assert!(config.changed().is_err());
        std::fs::remove_file(&file).unwrap();
    }
}

//! Values of arguments that need more than a number or a path.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dns::respond::Client;
use plan::{PlanName, ServiceName, ZoneName};

/// A controller's address: `http://HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerUrl {
    /// TCP.
    Http {
        /// `HOST:PORT`.
        authority: String,
    },
    /// A unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
    },
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix { path: path.into() });
        }
        let wrong = || {
            format!("`{text}` is no controller; write http://127.0.0.1:7400 or unix:/run/socket")
        };
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let uri: hyper::Uri = format!("http://{authority}/").parse().map_err(|_| wrong())?;
        if uri.path() != "/" || uri.query().is_some() || authority.contains('@') {
            return Err(wrong());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self::Http { authority: format!("{host}:{port}") })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { authority } => write!(f, "http://{authority}"),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `SERVICE|PLAN`: one word, or `plan/service`. Which of both a word is, the controller's plans
/// say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A plan, or a service whose name is unique.
    Word(String),
    /// A service by its full name.
    Service(PlanName, ServiceName),
}

impl FromStr for Subject {
    type Err = plan::name::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((plan, service)) => Ok(Self::Service(plan.parse()?, service.parse()?)),
            // Plans and services have the same rule for names.
            None => text.parse::<PlanName>().map(|name| Self::Word(name.into())),
        }
    }
}

/// A client: an address, or the network that a resolver sends for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientArg(pub(crate) Client);

impl FromStr for ClientArg {
    type Err = dns::respond::ClientError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ClientArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Client::Address(address) => address.fmt(f),
            Client::Network(network) => network.fmt(f),
        }
    }
}

/// A zone's origin and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneFile {
    /// The origin.
    pub(crate) origin: ZoneName,
    /// The file.
    pub(crate) file: PathBuf,
}

impl FromStr for ZoneFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write ORIGIN=FILE, for example corp.example=corp.example.zone";
        let (origin, file) = text
            .split_once('=')
            .filter(|(_, file)| !file.is_empty())
            .ok_or_else(|| format!("`{text}` names no file; {example}"))?;
        let origin = origin.parse().map_err(|error: plan::name::NameError| error.to_string())?;
        Ok(Self { origin, file: file.into() })
    }
}

/// How long to wait: `30s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Duration);

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// Longer than the longest bake anyone watches.
        const WAIT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
        let wrong = || format!("`{text}` is no duration; write 30s, 5m or 1h30m");
        let duration = plan::file::duration::parse(text).map_err(|_| wrong())?;
        if duration > WAIT_MAX { Err(wrong()) } else { Ok(Self(duration)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (text, expected) in [
            ("http://127.0.0.1:7400", Some("http://127.0.0.1:7400")),
            ("http://[::1]:7400/", Some("http://[::1]:7400")),
            ("http://localhost", Some("http://localhost:80")),
            ("unix:/run/crossfade.sock", Some("unix:/run/crossfade.sock")),
            ("unix:", None),
            ("https://a:1", None),
            ("127.0.0.1:7400", None),
            ("http://a:1/path", None),
            ("http://u@a:1", None),
        ] {
            let url = text.parse::<ServerUrl>().ok().map(|url| url.to_string());
            assert_eq!(url.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn clients_zones_and_waits() {
        assert_eq!("192.0.2.7".parse::<ClientArg>().unwrap().to_string(), "192.0.2.7");
        assert_eq!("192.0.2.0/24".parse::<ClientArg>().unwrap().to_string(), "192.0.2.0/24");
        assert!("192.0.2".parse::<ClientArg>().is_err());
        assert!("corp.example".parse::<ZoneFile>().is_err());
        assert!("corp.example=".parse::<ZoneFile>().is_err());
        let zone: ZoneFile = "Corp.Example.=a=b".parse().unwrap();
        assert_eq!((zone.origin.as_str(), zone.file), ("corp.example", "a=b".into()));
        assert_eq!("1h30m".parse(), Ok(Wait(Duration::from_secs(5400))));
        assert!("30".parse::<Wait>().is_err());
    }
}

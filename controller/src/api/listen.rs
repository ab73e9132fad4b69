//! The addresses that the API is asked at.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;

use super::socket::{Socket, SocketError};

/// Where the API shall listen.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// Loopback addresses.
    pub tcp: Vec<SocketAddr>,
    /// The file of the unix socket.
    pub unix: Option<PathBuf>,
    /// Health and metrics only; any address.
    pub metrics: Option<SocketAddr>,
}

/// The sockets of the API, listening.
#[derive(Debug)]
pub struct Bound {
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) unix: Option<Socket>,
    pub(crate) metrics: Option<TcpListener>,
}

/// Why the API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Anybody in the network could drive the plan.
    #[error(
        "the API cannot listen on {0}: other hosts reach it, and there is no TLS and no login in \
         front of it; listen on 127.0.0.1 and reach it with `ssh -L 7400:127.0.0.1:7400 HOST`, or \
         put a proxy that authenticates in front of it"
    )]
    Open(SocketAddr),
    /// Somebody else listens there.
    #[error("{0} is taken by another process; stop that one or choose another address")]
    Taken(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on {address}: {source}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// Opens every address, or none.
///
/// # Errors
/// An address is open to other hosts, taken or refused by the system.
pub async fn bind(listen: &Listen) -> Result<Bound, BindError> {
    if let Some(open) = listen.tcp.iter().find(|address| !address.ip().to_canonical().is_loopback())
    {
        return Err(BindError::Open(*open));
    }
    let mut tcp = Vec::with_capacity(listen.tcp.len());
    for address in &listen.tcp {
        tcp.push(open(*address).await?);
    }
    let metrics = match listen.metrics {
        Some(address) => Some(open(address).await?),
        None => None,
    };
    let unix = match &listen.unix {
        Some(path) => Some(Socket::bind(path).await?),
        None => None,
    };
    Ok(Bound { tcp, unix, metrics })
}

async fn open(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::Taken(address)
        } else {
            BindError::Refused { address, source }
        }
    })
}

impl Bound {
    /// The TCP addresses of the API, with the ports that the system chose.
    pub fn tcp(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The address for health and metrics.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where the API is asked: `http://127.0.0.1:7400`, `unix:/var/lib/crossfade/crossfade.sock`.
    pub fn urls(&self) -> Vec<String> {
        let tcp = self.tcp().into_iter().map(|address| format!("http://{address}"));
        let unix = self.unix.iter().map(|socket| format!("unix:{}", socket.path().display()));
        tcp.chain(unix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_loopback_is_opened() {
        for (address, fine) in [
            ("127.0.0.1:0", true),
            ("127.1.2.3:0", true),
            ("[::ffff:127.0.0.1]:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("10.0.0.1:7400", false),
        ] {
            let listen = Listen { tcp: vec![address.parse().unwrap()], ..Listen::default() };
            let open = matches!(bind(&listen).await, Err(BindError::Open(_)));
            assert_eq!(open, !fine, "{address}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_told() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap();
        let listen = Listen { tcp: vec![address], ..Listen::default() };
        let error = bind(&listen).await.unwrap_err();
        assert!(matches!(error, BindError::Taken(taken) if taken == address), "{error}");
    }
}

use std::path::Path;

use proto::envoy::service::discovery::v3::aggregated_discovery_service_client as ads;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use proto::google::rpc::Status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::*;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crossfade-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it lies in the system's directory for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A relay part whose controller is not there.
fn part(directory: &Path, listen: &[&str]) -> Part {
    let socket = directory.join("xds.sock");
    Part::open(Settings {
        name: "vm/envoy".to_owned(),
        says: vec![("role", "relay".to_owned())],
        dial: Dial::new(&["127.0.0.1:1".to_owned()], None).unwrap(),
        directory: directory.to_owned(),
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        local: Some(UnixListener::bind(socket).unwrap()),
        identity: None,
    })
    .unwrap()
}

/// A proxy that wants both secrets.
struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    answers: Streaming<DeltaDiscoveryResponse>,
    /// In which words it refuses what it is sent.
    refuses: Option<&'static str>,
}

impl Proxy {
    async fn connect(directory: &Path) -> Result<Self, tonic::Status> {
        let socket = format!("unix://{}", directory.join("xds.sock").display());
        let channel = Endpoint::from_shared(socket).unwrap().connect().await.unwrap();
        let (requests, receiver) = mpsc::channel(4);
        let names = [render::IDENTITY, render::AUTHORITIES].map(str::to_owned).to_vec();
        let first = DeltaDiscoveryRequest {
            node: Some(follow::node("proxy", "1", &[("role", "sidecar")])),
            type_url: TypeUrl::SECRET.to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(first).await.unwrap();
        let mut client = ads::AggregatedDiscoveryServiceClient::new(channel);
        let answers = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?;
        Ok(Self { requests, answers: answers.into_inner(), refuses: None })
    }

    /// What comes next: names, and whether a text is in them.
    async fn next(&mut self, text: &str) -> Result<(Vec<String>, bool), tonic::Status> {
        let answer = self.answers.message().await?.unwrap();
        let ack = DeltaDiscoveryRequest {
            type_url: answer.type_url.clone(),
            response_nonce: answer.nonce.clone(),
            error_detail: self.refuses.map(|words| Status { code: 3, message: words.to_owned() }),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(ack).await.unwrap();
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|found| found == text.as_bytes());
        let found = answer.resources.iter().flat_map(|resource| &resource.resource);
        let found = found.into_iter().any(|body| has(&body.value));
        let mut names: Vec<String> =
            answer.resources.into_iter().map(|resource| resource.name).collect();
        names.sort();
        Ok((names, found))
    }
}

fn put(shelf: &Shelf, chain: &str) {
    let mut served = shelf.lock();
    let (authorities, revoked) = ("the-ca", "");
    served.put_secrets(Secrets { chain, key: "the-key", authorities, revoked });
    shelf.publisher.publish(served.tables());
}

/// Does this while the part runs.
async fn while_running(part: Part, task: impl Future<Output = ()>) {
    tokio::select! {
        ended = Box::pin(part.run(std::future::pending())) => panic!("it ended: {ended:?}"),
        () = task => {}
    }
}

#[tokio::test]
async fn a_renewed_certificate_reaches_a_proxy_that_stays_connected() {
    let scratch = Scratch::new("secrets");
    let part = part(&scratch.0, &[]);
    let shelf = part.shelf.clone();
    put(&shelf, "chain-of-today");
    let renew = async {
        let mut proxy = Proxy::connect(&scratch.0).await.unwrap();
        let mut both = [render::AUTHORITIES, render::IDENTITY].map(str::to_owned).to_vec();
        both.sort();
        assert_eq!(proxy.next("chain-of-today").await.unwrap(), (both, true));
        put(&shelf, "chain-of-tomorrow");
        let one = vec![render::IDENTITY.to_owned()];
        assert_eq!(proxy.next("chain-of-tomorrow").await.unwrap(), (one, true));
    };
    while_running(part, renew).await;
}

#[tokio::test]
async fn a_proxy_that_refuses_has_not_taken_everything() {
    let scratch = Scratch::new("refuses");
    let part = part(&scratch.0, &[]);
    let (shelf, settled) = (part.shelf.clone(), part.is_settled());
    let mut standings = part.server.registry().standings();
    put(&shelf, "chain-of-today");
    let refuse = async {
        assert!(!settled(), "nobody is there");
        let mut proxy = Proxy::connect(&scratch.0).await.unwrap();
        proxy.next("chain").await.unwrap();
        while !settled() {
            standings.changed().await.unwrap();
        }
        proxy.refuses = Some("it cannot be read");
        put(&shelf, "chain-of-tomorrow");
        proxy.next("chain").await.unwrap();
        let is_refused =
            |now: &Arc<Standings>| now.sinks.iter().any(|sink| sink.progress.refused.is_some());
        standings.wait_for(is_refused).await.unwrap();
        assert!(!settled());
    };
    while_running(part, refuse).await;
}

#[tokio::test]
async fn keys_are_not_served_where_anybody_may_ask() {
    let scratch = Scratch::new("open");
    let part = part(&scratch.0, &["127.0.0.1:0"]);
    put(&part.shelf, "chain-of-today");
    let ask = async {
        let refused = match Proxy::connect(&scratch.0).await {
            Ok(mut proxy) => proxy.next("the-key").await.unwrap_err(),
            Err(status) => status,
        };
        assert!(refused.message().contains("Secret"), "{refused:?}");
    };
    while_running(part, ask).await;
}

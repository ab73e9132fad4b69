//! A server, and clients of ours for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plan::Token;
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::aggregated_discovery_service_client as ads;
use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use proto::google::protobuf::value::Kind;
use proto::google::protobuf::{Struct, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use xds::lrs::LoadReports;
use xds::registry::SinkState;
use xds::server::{Clock, Doorman, Limits, Meter, Server, Settings, Tls, serving, standard_routes};
use xds::session::{Close, Rules};
use xds::{Client, Publisher, Registry, Resources, TypeUrl, View, Viewer};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with resources.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) resources: Resources,
    pub(crate) publisher: Publisher,
    pub(crate) registry: Registry,
    pub(crate) meter: Meter,
    pub(crate) loads: LoadReports,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

pub(crate) fn clusters() -> TypeUrl {
    TypeUrl::new(TypeUrl::CLUSTER)
}

/// Names with versions; the body is the name.
pub(crate) fn named(entries: &[(&str, &str)]) -> BTreeMap<String, (String, Vec<u8>)> {
    let entry = |(name, version): &(&str, &str)| {
        ((*name).to_owned(), ((*version).to_owned(), name.as_bytes().to_vec()))
    };
    entries.iter().map(entry).collect()
}

/// Every type that has a service.
pub(crate) fn types() -> Vec<TypeUrl> {
    let all = [
        TypeUrl::CLUSTER,
        TypeUrl::ENDPOINTS,
        TypeUrl::LISTENER,
        TypeUrl::ROUTES,
        TypeUrl::VIRTUAL_HOST,
        TypeUrl::SCOPED_ROUTES,
        TypeUrl::EXTENSION,
        TypeUrl::SECRET,
        TypeUrl::RUNTIME,
    ];
    all.map(TypeUrl::new).to_vec()
}

/// Gateways may not ask for secrets; else everybody sees everything.
#[derive(Debug)]
struct ByRole(Arc<Rules>);

impl Viewer for ByRole {
    fn view(&self, client: &Client) -> Result<View, Close> {
        let view = self.0.viewer.view(client)?;
        let types = match client.says("role") {
            Some("gateway") => Arc::new([(TypeUrl::new(TypeUrl::SECRET), None)]),
            _ => view.types,
        };
        Ok(View { types, ..view })
    }
}

fn rules() -> Arc<Rules> {
    let all = Resources::rules(types());
    let (types, limits) = (all.types.clone(), all.limits);
    Arc::new(Rules { viewer: Arc::new(ByRole(all)), types, limits })
}

impl World {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::with(limits, None).await
    }

    pub(crate) async fn with(limits: Limits, tls: Option<Tls>) -> Self {
        Self::guarded(limits, tls, None).await
    }

    pub(crate) async fn guarded(
        limits: Limits,
        tls: Option<Tls>,
        doorman: Option<Arc<dyn Doorman>>,
    ) -> Self {
        let clock = Clock::start();
        let server = Server::bind(Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            tls,
            doorman,
            rules: rules(),
            limits,
            clock,
        })
        .unwrap();
        let (stop, stopped) = oneshot::channel();
        let address = server.addresses()[0];
        let (publisher, registry, meter) = (server.publisher(), server.registry(), server.meter());
        let (mut routes, health) = standard_routes().await.unwrap();
        let (load_service, loads) = xds::lrs::service(|cluster| cluster.contains('/'), clock);
        serving(&health, &load_service).await;
        routes.add_service(load_service);
        let serving = tokio::spawn(server.serve(routes.routes(), async {
            let _ = stopped.await;
        }));
        let resources = Resources::new(publisher.clone());
        Self { address, resources, publisher, registry, meter, loads, stop: Some(stop), serving }
    }

    /// Tells the server to stop; waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        in_time(self.serving).await.unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// A Delta client of clusters on a connection of its own.
    pub(crate) async fn delta(&self, node: &str) -> Delta {
        Delta::open(self.channel().await, node, &clusters()).await.unwrap()
    }

    /// Waits until a sink is so.
    pub(crate) async fn sink(&self, node: &str, is: impl Fn(&SinkState) -> bool) -> SinkState {
        let mut standings = self.registry.standings();
        let found = standings.wait_for(|now| now.sink(node).is_some_and(|sink| is(sink)));
        let found = in_time(found).await.unwrap();
        SinkState::clone(found.sink(node).unwrap())
    }

    /// Waits until a sink has taken this.
    pub(crate) async fn acked(&self, node: &str, mark: Token) {
        self.sink(node, |sink| sink.progress.acked >= mark).await;
    }
}

/// What must come, in time.
pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

/// Waits until something is so that nobody announces.
pub(crate) async fn until(is: impl Fn() -> bool) {
    in_time(async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) fn node(id: &str, role: Option<&str>) -> Node {
    let value = |role: &str| Value { kind: Some(Kind::StringValue(role.to_owned())) };
    let fields = role.map(|role| ("crossfade.role".to_owned(), value(role)));
    let metadata = Struct { fields: fields.into_iter().collect() };
    Node { id: id.to_owned(), metadata: Some(metadata), ..Node::default() }
}

/// A Delta stream.
pub(crate) struct Delta {
    pub(crate) requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(crate) responses: Streaming<DeltaDiscoveryResponse>,
    type_url: TypeUrl,
}

impl Delta {
    /// Opens a stream and subscribes to everything of a type.
    pub(crate) async fn open(
        channel: Channel,
        id: &str,
        type_url: &TypeUrl,
    ) -> Result<Self, Status> {
        Self::open_as(channel, node(id, None), type_url).await
    }

    pub(crate) async fn open_as(
        channel: Channel,
        node: Node,
        type_url: &TypeUrl,
    ) -> Result<Self, Status> {
        let first = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url.as_str().to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let silent = Self::silent(channel, type_url).await?;
        silent.requests.send(first).await.unwrap();
        Ok(silent)
    }

    /// Opens a stream and says nothing.
    pub(crate) async fn silent(channel: Channel, type_url: &TypeUrl) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(64);
        let mut client = ads::AggregatedDiscoveryServiceClient::new(channel);
        let call = client.delta_aggregated_resources(ReceiverStream::new(outgoing));
        let responses = in_time(call).await?.into_inner();
        Ok(Self { requests, responses, type_url: type_url.clone() })
    }

    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = in_time(self.responses.message()).await?;
        next.ok_or_else(|| Status::ok("the stream ended"))
    }

    /// How the stream ends, whatever comes before.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub(crate) async fn ack(&self, response: &DeltaDiscoveryResponse) {
        self.answer(response, None).await;
    }

    pub(crate) async fn nack(&self, response: &DeltaDiscoveryResponse, words: &str) {
        self.answer(response, Some(words)).await;
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, words: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: self.type_url.as_str().to_owned(),
            response_nonce: response.nonce.clone(),
            error_detail: words.map(refusal),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// The names and versions of the next response, which is acked.
    pub(crate) async fn took(&mut self) -> Vec<(String, String)> {
        let response = self.next().await.unwrap();
        self.ack(&response).await;
        let mut took: Vec<_> =
            response.resources.into_iter().map(|it| (it.name, it.version)).collect();
        took.sort();
        took
    }
}

/// A state-of-the-world stream of clusters.
pub(crate) struct Sotw {
    pub(crate) requests: mpsc::Sender<DiscoveryRequest>,
    pub(crate) responses: Streaming<DiscoveryResponse>,
}

impl Sotw {
    pub(crate) async fn open(channel: Channel, id: &str) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        let first = DiscoveryRequest {
            node: Some(node(id, None)),
            type_url: TypeUrl::CLUSTER.to_owned(),
            ..DiscoveryRequest::default()
        };
        requests.send(first).await.unwrap();
        let mut client = ads::AggregatedDiscoveryServiceClient::new(channel);
        let call = client.stream_aggregated_resources(ReceiverStream::new(outgoing));
        let responses = in_time(call).await.unwrap().into_inner();
        Self { requests, responses }
    }

    /// The version and the bodies of the next response, which is acked.
    pub(crate) async fn took(&mut self) -> (String, Vec<String>) {
        let response = in_time(self.responses.message()).await.unwrap().unwrap();
        let ack = DiscoveryRequest {
            type_url: TypeUrl::CLUSTER.to_owned(),
            version_info: response.version_info.clone(),
            response_nonce: response.nonce,
            ..DiscoveryRequest::default()
        };
        self.requests.send(ack).await.unwrap();
        let body = |any: proto::google::protobuf::Any| String::from_utf8(any.value.into()).unwrap();
        let mut bodies: Vec<_> = response.resources.into_iter().map(body).collect();
        bodies.sort();
        (response.version_info, bodies)
    }
}

pub(crate) fn refusal(words: &str) -> proto::google::rpc::Status {
    proto::google::rpc::Status { code: 3, message: words.to_owned() }
}

#[track_caller]
pub(crate) fn assert_status(status: &Status, code: Code, words: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{status:?} has not `{words}`");
}

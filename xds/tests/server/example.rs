//! The example of the library, run.

use tokio::sync::mpsc;
use tonic::transport::Endpoint;
use xds::TypeUrl;

use crate::world::{Delta, in_time};

#[path = "../../examples/serve.rs"]
#[allow(dead_code, reason = "its `main` reads standard input")]
mod serve;

#[tokio::test]
async fn the_example_serves_what_is_typed() {
    let (edits, edited) = mpsc::channel(1);
    let (print, mut lines) = mpsc::channel(100);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let running = tokio::task::spawn_local(async move {
                let print = |line| print.try_send(line).unwrap();
                serve::run("127.0.0.1:0".parse().unwrap(), edited, print).await.unwrap();
            });
            let line = in_time(lines.recv()).await.unwrap();
            let address = line.strip_prefix("xds ").unwrap();
            edits.send("orders 250".to_owned()).await.unwrap();
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            let channel = endpoint.connect().await.unwrap();
            let clusters = TypeUrl::new(TypeUrl::CLUSTER);
            let mut client = Delta::open(channel, "someone", &clusters).await.unwrap();
            let mut seen = Vec::new();
            while !seen.contains(&("orders".to_owned(), "1".to_owned())) {
                seen.extend(client.took().await);
            }
            edits.send("orders -".to_owned()).await.unwrap();
            let response = client.next().await.unwrap();
            assert_eq!(response.removed_resources, ["orders"]);
            client.ack(&response).await;
            let mut told = Vec::new();
            while told.last().is_none_or(|last| last != "someone has 1.3") {
                told.push(in_time(lines.recv()).await.unwrap());
            }
            assert!(told.contains(&"served as 1.3".to_owned()), "{told:?}");
            drop(edits);
            in_time(running).await.unwrap();
        })
        .await;
}

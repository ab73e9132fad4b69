//! Plan names are answered from memory, at once, and from another table at once.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use hickory_proto::op::Message;

use crate::world::{Client, Upstream, answers, question, read_frame, stub, upstreams, write_frame};

fn addresses(answer: &[u8]) -> Vec<String> {
    let message = Message::from_vec(answer).unwrap();
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn plan_names_never_reach_the_upstream() {
    let upstream = Upstream::mute();
    let stub = stub(upstreams(&[&upstream]));
    let client = Client::new(&stub);
    for (name, rtype, want) in [
        ("orders.corp.example", 1, vec!["10.0.1.10"]),
        ("OrDeRs.corp.example", 1, vec!["10.0.1.10"]),
        ("orders.corp.example", 28, vec![]),
        ("orders.corp.example", 65, vec![]),
        ("payments.corp.example", 1, vec!["10.0.2.11", "10.0.2.12"]),
    ] {
        let query = question(7, name, rtype);
        let mut found = addresses(&client.ask(&query));
        found.sort_unstable();
        assert_eq!(found, want, "{name} {rtype}");
        let mut stream = TcpStream::connect(stub.addresses()[0]).unwrap();
        write_frame(&mut stream, &query);
        let mut found = addresses(&read_frame(&mut stream).unwrap());
        found.sort_unstable();
        assert_eq!(found, want, "{name} {rtype} over TCP");
    }
    assert_eq!(upstream.count(), 0);
    let told = stub.totals().told;
    assert_eq!((told[0].logical, told[0].legacy, told[0].target), (8, 0, 0));
    assert_eq!((told[1].logical, told[1].legacy, told[1].target), (0, 2, 0));
}

#[test]
fn a_change_counts_from_the_next_query_on() {
    let stub = stub(upstreams(&[&Upstream::mute()]));
    let client = Client::new(&stub);
    let query = question(1, "payments.corp.example", 1);
    for _ in 0..20 {
        for (bp, want) in [(10_000, "10.9.2."), (0, "10.0.2.")] {
            stub.publish(Arc::new(stub.answers().next(services(bp).as_slice())));
            for address in addresses(&client.ask(&query)) {
                assert!(address.starts_with(want), "{address} at {bp}");
            }
        }
    }
    let told = stub.totals().told;
    assert_eq!((told[1].legacy, told[1].target), (20, 20));
}

fn services(bp: u16) -> Vec<Arc<plan::snapshot::Service>> {
    let text = plan::fixture::SHOP.split("  gates:\n").next().unwrap();
    let text = text.replace(", gates: [sign-off]", "").replace("      address: 10.0.2.10\n", "");
    plan::fixture::snapshot(&text, plan::split::Split::from_bp(bp).unwrap()).services.to_vec()
}

#[test]
fn a_table_that_goes_takes_its_names_with_it() {
    let upstream = Upstream::echo();
    let stub = stub(upstreams(&[&upstream]));
    let client = Client::new(&stub);
    let query = question(3, "orders.corp.example", 1);
    assert_eq!(addresses(&client.ask(&query)), ["10.0.1.10"]);
    stub.publish(Arc::new(agent::names::Answers::empty(Ipv4Addr::LOCALHOST.into())));
    client.ask(&query);
    assert_eq!(upstream.heard().0, query);
    stub.publish(Arc::new(answers(0)));
    assert_eq!(addresses(&client.ask(&query)), ["10.0.1.10"]);
}

//! Publishing under load: nobody is told anything older than what was published before they asked.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::thread;

use super::world::{
    ask, at, catalog, connect, datagrams, first, one_address, orders, query, receive, send, serve,
    zone,
};
use crate::Catalog;
use crate::server::Publisher;
use crate::server::swap::{Reader, Swap};
use crate::wire::Rtype;

/// Publishes one revision after another and tells `published` which is out.
async fn publish_all(publisher: &Publisher, revisions: u32, published: &AtomicU32) {
    let base = Catalog::of_zones(vec![zone()]);
    for revision in 1..=revisions {
        publisher.publish(catalog(&base, revision)).await;
        published.store(revision, Ordering::SeqCst);
    }
}

/// While a batch lasts nothing newer than its catalog may count as published.
fn batches(reader: &Reader, published: &AtomicU32, stop: &AtomicBool) -> u64 {
    let mut batches = 0;
    while !stop.load(Ordering::Relaxed) {
        let batch = reader.enter();
        let token = batch.published().catalog.token;
        for _ in 0..batches % 2_000 {
            let out = u64::from(published.load(Ordering::SeqCst));
            assert!(out <= token.revision, "{out} is out, a batch answers from {token}");
        }
        drop(batch);
        batches += 1;
        // Most of the time a thread waits for queries; one that is put off the core in the middle
        // of a batch would make this a test of the scheduler.
        thread::yield_now();
    }
    batches
}

#[tokio::test]
async fn a_publish_waits_for_the_batch_under_way_and_for_no_idle_thread() {
    let base = Catalog::of_zones(vec![zone()]);
    let swap = Swap::new(first(), 3);
    let publisher = Publisher::new(Arc::clone(&swap));
    let readers: Vec<Reader> = swap.readers().collect();
    for (revision, reader) in (1..).zip(&readers) {
        let batch = reader.enter();
        let mut publish = pin!(publisher.publish(catalog(&base, revision)));
        for _ in 0..20 {
            assert!(poll_fn(|task| Poll::Ready(publish.as_mut().poll(task))).await.is_pending());
        }
        assert_eq!(batch.published().catalog.token.revision, u64::from(revision) - 1);
        drop(batch);
        // What begins now answers from the new catalog and delays nobody.
        let next = reader.enter();
        assert_eq!(next.published().catalog.token.revision, u64::from(revision));
        publish.await;
        drop(next);
    }
    let mut publish = pin!(publisher.publish(catalog(&base, 9)));
    assert!(poll_fn(|task| Poll::Ready(publish.as_mut().poll(task))).await.is_ready());
}

#[test]
fn no_batch_outlives_a_publish() {
    const REVISIONS: u32 = 10_000;
    let swap = Swap::new(first(), 5);
    let (published, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    thread::scope(|scope| {
        // The fifth reader never enters: it must not delay anybody.
        let readers: Vec<Reader> = swap.readers().take(4).collect();
        let threads: Vec<_> = readers
            .into_iter()
            .map(|reader| {
                let (published, stop) = (&published, &stop);
                scope.spawn(move || batches(&reader, published, stop))
            })
            .collect();
        runtime.block_on(publish_all(&Publisher::new(Arc::clone(&swap)), REVISIONS, &published));
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            assert!(thread.join().unwrap() > 0);
        }
    });
    assert_eq!(published.into_inner(), REVISIONS);
}

/// Asks until told to stop; no answer may be older than what was out before the question.
fn watch(published: &AtomicU32, stop: &AtomicBool, mut ask: impl FnMut(&[u8]) -> Vec<u8>) -> u64 {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let out = published.load(Ordering::SeqCst);
        let address = one_address(&ask(&query(1, "orders.example", Rtype::A.0)));
        let told = address.to_bits() & 0x00ff_ffff;
        assert!(told >= out, "{out} was out before the question, the answer is of {told}");
        asked += 1;
    }
    asked
}

fn over_udp(server: SocketAddr) -> impl FnMut(&[u8]) -> Vec<u8> {
    let client = datagrams(server);
    move |query| ask(&client, query)
}

fn over_tcp(server: SocketAddr) -> impl FnMut(&[u8]) -> Vec<u8> {
    let mut stream = connect(server);
    move |query| {
        send(&mut stream, query);
        receive(&mut stream)
    }
}

#[test]
fn no_client_is_told_what_was_replaced_before_it_asked() {
    let server = serve("127.0.0.1:0", 2);
    let (published, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let address = at(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    thread::scope(|scope| {
        let (published, stop) = (&published, &stop);
        let clients = [
            scope.spawn(move || watch(published, stop, over_udp(address))),
            scope.spawn(move || watch(published, stop, over_udp(address))),
            scope.spawn(move || watch(published, stop, over_tcp(address))),
        ];
        runtime.block_on(publish_all(&server.publisher(), 10_000, published));
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
}

#[tokio::test]
async fn an_older_catalog_is_left_out() {
    let base = Catalog::of_zones(vec![zone()]);
    let server = serve("127.0.0.1:0", 1);
    let publisher = server.publisher();
    publisher.publish(catalog(&base, 5)).await;
    publisher.publish(catalog(&base, 4)).await;
    assert_eq!(publisher.current().token.revision, 5);
}

#[tokio::test]
async fn clients_are_counted_by_side_over_both_transports() {
    let base = Catalog::of_zones(vec![zone()]);
    let server = serve("127.0.0.1:0", 2);
    let now = super::world::moment();
    let token = |revision| plan::Token { incarnation: 1, revision };
    let at_split = |revision, split| {
        let address = std::net::Ipv4Addr::new(10, 0, 0, 1);
        Arc::new(base.with_names(token(revision), &[orders(split, address, token(revision))]))
    };
    let question = query(1, "orders.example", Rtype::A.0);
    let mut told_target = 0;
    let publisher = server.publisher();
    publisher.publish(at_split(1, 5_000)).await;
    for last in 1..=40 {
        let client = super::world::datagrams_from(last, at(&server));
        for _ in 0..3 {
            let address = one_address(&ask(&client, &question));
            told_target += u64::from(address.octets()[0] == 198);
        }
    }
    assert!(told_target > 0 && told_target < 120);
    let id = "shop/orders".parse().unwrap();
    let count = server.counts(now).services[&id];
    // Loopback is private, so each address is a client of its own.
    assert_eq!((count.keys, count.events, count.largest, count.squares), (40, 120, 3, 360));
    assert_eq!((count.target * 3, count.legacy), (told_target, 40 - count.target));
    assert_eq!(count.old_until, None);

    publisher.publish(at_split(2, 10_000)).await;
    let count = server.counts(now).services[&id];
    assert_eq!((count.keys, count.events), (0, 0));
    let until = count.old_until.unwrap();
    assert!(until > now && until.since(now).as_secs() < 60, "{until} {now}");
    let mut stream = connect(at(&server));
    send(&mut stream, &question);
    assert_eq!(one_address(&receive(&mut stream)).octets()[0], 198);
    let count = server.counts(now).services[&id];
    assert_eq!((count.keys, count.legacy, count.target, count.events), (1, 0, 1, 1));
    assert_eq!(count.old_until, Some(until));
    assert_eq!(server.counts(until).services[&id].old_until, None);
}

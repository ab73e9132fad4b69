//! Where the controllers are, so that no rule takes hold of the way to them. Their names are looked
//! up beside everything else, as a name server may hang, and may be ours: what was found is kept,
//! and is what the next start goes by.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use xds::follow::Link;

use crate::disk;
use crate::host::files::Settings;
use crate::verbs::chain;

/// The file.
const KEPT: &str = "controllers.json";

/// How often names are looked up again: addresses of controllers seldom change.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);

/// The most addresses of one name that are kept: one answer has seldom more.
const ADDRESSES_MAX: usize = 64;

/// The addresses of each controller that the settings name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Controllers(BTreeMap<String, Vec<SocketAddr>>);

impl Controllers {
    /// What is known without asking anybody; where settings cannot be read, whoever was found.
    pub(super) fn kept(directory: &Path, settings: Option<&Settings>) -> Self {
        let kept: Self = disk::read(directory, KEPT)
            .unwrap_or_else(|error| {
                tracing::warn!(why = %chain(&error), "controllers are looked up anew");
                None
            })
            .unwrap_or_default();
        match settings {
            Some(settings) => Self::of(settings, |name| kept.0.get(name).cloned()),
            None => kept,
        }
    }

    fn of(settings: &Settings, known: impl Fn(&str) -> Option<Vec<SocketAddr>>) -> Self {
        let addresses = |text: &String| match text.parse::<SocketAddr>() {
            Ok(address) => vec![address],
            Err(_) => known(text).unwrap_or_default(),
        };
        Self(settings.controllers.iter().map(|text| (text.clone(), addresses(text))).collect())
    }

    /// All of them.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.values().flatten().copied()
    }

    /// Those that are names.
    fn names(&self) -> Vec<String> {
        let names = self.0.keys().filter(|text| text.parse::<SocketAddr>().is_err());
        names.cloned().collect()
    }
}

/// Looks names up again and again, and as soon as a controller is reached: it may have been by an
/// address that was not known. Tells what changed, and keeps it. What cannot be looked up stays as
/// it was known.
pub(super) async fn go_on(
    directory: &Path,
    known: &watch::Sender<Controllers>,
    mut links: watch::Receiver<Option<Link>>,
) {
    let names = known.borrow().names();
    if names.is_empty() {
        return std::future::pending().await;
    }
    let mut tick = tokio::time::interval(LOOK_UP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Ok(()) = links.changed() => {
                if links.borrow_and_update().is_none() {
                    continue;
                }
            }
        }
        for name in &names {
            match tokio::net::lookup_host(name).await {
                Ok(found) => {
                    let mut found: Vec<_> = found.take(ADDRESSES_MAX).collect();
                    // Servers answer in another order each time.
                    found.sort_unstable();
                    found.dedup();
                    take(directory, known, name, found);
                }
                Err(error) => {
                    tracing::warn!(controller = name, %error, "its name does not resolve");
                }
            }
        }
    }
}

fn take(directory: &Path, known: &watch::Sender<Controllers>, name: &str, found: Vec<SocketAddr>) {
    let is_new = known.send_if_modified(|known| {
        let Some(before) = known.0.get_mut(name).filter(|before| **before != found) else {
            return false;
        };
        *before = found;
        true
    });
    if !is_new {
        return;
    }
    let now = known.borrow().clone();
    if let Err(error) = disk::put(directory, KEPT, &now) {
        tracing::warn!(why = %chain(&error), "where the controllers are cannot be kept");
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::host::files::Names;

    fn settings(controllers: &[&str]) -> Settings {
        Settings {
            name: "vm-1".to_owned(),
            controllers: controllers.iter().map(|text| (*text).to_owned()).collect(),
            joined: true,
            address: IpAddr::from([10, 0, 1, 11]),
            names: Names::Off,
            exempt: Vec::new(),
            envoy: None,
        }
    }

    /// It may have been reached by an address that was not known when names were looked up last.
    #[tokio::test]
    async fn names_are_looked_up_when_a_controller_is_reached() {
        let directory =
            std::env::temp_dir().join(format!("crossfade-reached-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let chosen = settings(&["localhost:7410"]);
        let known = watch::channel(Controllers::kept(&directory, Some(&chosen))).0;
        let mut seen = known.subscribe();
        let (links, reached) = watch::channel(None);
        let test = async {
            seen.changed().await.unwrap();
            known.send_replace(Controllers::of(&chosen, |_| None));
            seen.borrow_and_update();
            let channel = tonic::transport::Endpoint::from_static("http://[::1]:1").connect_lazy();
            links.send_replace(Some(Link { address: "localhost:7410".into(), channel }));
            tokio::time::timeout(LOOK_UP_EVERY / 2, seen.changed()).await.unwrap().unwrap();
        };
        tokio::select! {
            () = go_on(&directory, &known, reached) => {}
            () = test => {}
        }
        assert!(known.borrow().addresses().next().is_some());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    /// What is known at start costs no question: an address is one, and a name is what it was.
    #[tokio::test]
    async fn what_was_found_is_known_at_the_next_start() {
        let directory =
            std::env::temp_dir().join(format!("crossfade-controllers-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let chosen = settings(&["10.0.0.5:7410", "localhost:7410"]);
        let first = Controllers::kept(&directory, Some(&chosen));
        let literal: SocketAddr = "10.0.0.5:7410".parse().unwrap();
        assert_eq!(first.addresses().collect::<Vec<_>>(), [literal]);
        let (known, mut seen) = watch::channel(first);
        tokio::select! {
            () = go_on(&directory, &known, watch::channel(None).1) => {}
            changed = seen.changed() => changed.unwrap(),
        }
        let found = seen.borrow().clone();
        assert!(found.addresses().any(|address| address.ip().is_loopback()), "{found:?}");
        assert_eq!(Controllers::kept(&directory, Some(&chosen)), found);
        assert_eq!(Controllers::kept(&directory, None), found);
        // Those that are no longer in the settings are forgotten.
        let only = Controllers::kept(&directory, Some(&settings(&["10.0.0.5:7410"])));
        assert_eq!(only.addresses().collect::<Vec<_>>(), [literal]);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
